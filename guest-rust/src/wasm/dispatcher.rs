//! Turns the host's events for one controller into calls of its reconciler, error policy and mappers.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::{TryFuture, TryFutureExt};
use kube::api::GetParams;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::error_chain::describe;
use super::mapped_keys::{MappedKeys, WatchedObject};
use super::registry::HostEvent;
use super::{abi, tasks};
use crate::key;

/// Returns the keys that a watched object, given as JSON, belongs to.
pub type Mapper = Box<dyn Fn(&[u8]) -> Result<Vec<String>, serde_json::Error> + Send + Sync>;

/// The result of one reconcile, as the controller's stream yields it.
pub type ReconcileResult<K, E> = Result<(ObjectRef<K>, Action), Error<E, watcher::Error>>;

/// An input of the dispatcher.
pub enum Input<K, E> {
    FromHost(HostEvent),
    /// The object to reconcile has been read. `None` means that it does not exist.
    Read {
        task: u64,
        object: Result<Option<K>, kube::Error>,
    },
    /// The reconciler has returned.
    Reconciled {
        task: u64,
        object: Arc<K>,
        result: Result<Action, E>,
    },
}

/// Runs the reconciles and mappings of one controller.
pub struct Dispatcher<K: Resource, Reconciler, ErrorPolicy, Ctx, E> {
    pub client: Client,
    pub dyntype: K::DynamicType,
    /// Whether the objects to reconcile may be read from the host's cache.
    pub is_cached: bool,
    /// By watch index. `None` for watches that the host maps by owner references.
    pub mappers: Vec<Option<Mapper>>,
    /// The previous results of `mappers`.
    pub mapped: MappedKeys,
    /// Where tasks send their results. The same channel as the host's events.
    pub sender: mpsc::UnboundedSender<Input<K, E>>,
    pub reconciler: Reconciler,
    pub error_policy: ErrorPolicy,
    pub context: Arc<Ctx>,
}

impl<K, Reconciler, Fut, ErrorPolicy, Ctx> Dispatcher<K, Reconciler, ErrorPolicy, Ctx, Fut::Error>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
    Reconciler: FnMut(Arc<K>, Arc<Ctx>) -> Fut,
    Fut: TryFuture<Ok = Action> + Send + 'static,
    Fut::Error: std::error::Error + Send + 'static,
    ErrorPolicy: Fn(Arc<K>, &Fut::Error, Arc<Ctx>) -> Action,
{
    /// Handles an input. Returns the result of a reconcile that has ended.
    pub fn on_input(&mut self, input: Input<K, Fut::Error>) -> Option<ReconcileResult<K, Fut::Error>> {
        match input {
            Input::FromHost(HostEvent::Reconcile { task, key }) => self.read(task, &key),
            Input::FromHost(HostEvent::Map { task, watch, object, deleted }) => {
                self.map(task, watch, &object, deleted);
            }
            // The host has cancelled this task and expects no `done`.
            Input::Read { task, .. } if !tasks::is_in_progress(task) => {}
            Input::Read { task, object: Ok(Some(object)) } => self.reconcile(task, object),
            Input::Read { task, object: Ok(None) } => {
                tasks::end(task);
                abi::done(task, None, None);
            }
            Input::Read { task, object: Err(error) } => {
                tasks::end(task);
                abi::done(task, None, Some(&describe(&error)));
                return Some(Err(Error::QueueError(watcher::Error::WatchFailed(error))));
            }
            Input::Reconciled { task, object, result } => {
                if tasks::end(task) {
                    return Some(self.finish(task, object, result));
                }
            }
        }
        None
    }

    /// Reads the object to reconcile.
    fn read(&self, task: u64, key: &str) {
        let (namespace, name) = key::split(key);
        let params = if self.is_cached { GetParams::any() } else { GetParams::default() };
        let request = kube::core::Request::new(K::url_path(&self.dyntype, namespace)).get(name, &params);
        let client = self.client.clone();
        let read = async move {
            let request = request.map_err(kube::Error::BuildRequest)?;
            match client.request::<K>(request).await {
                Ok(object) => Ok(Some(object)),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.spawn(task, read, move |object| Input::Read { task, object });
    }

    fn reconcile(&mut self, task: u64, object: K) {
        let span = tracing::info_span!("reconciling object", object = %ObjectRef::from_obj_with(&object, self.dyntype.clone()));
        let object = Arc::new(object);
        let reconcile = {
            let _task = tasks::enter(task);
            let _span = span.enter();
            TryFutureExt::into_future((self.reconciler)(object.clone(), self.context.clone()))
        };
        self.spawn(task, reconcile.instrument(span), move |result| Input::Reconciled { task, object, result });
    }

    fn spawn<T>(
        &self,
        task: u64,
        work: impl Future<Output = T> + Send + 'static,
        input: impl FnOnce(T) -> Input<K, Fut::Error> + Send + 'static,
    ) {
        let sender = self.sender.clone();
        let handle = tokio::spawn(async move {
            let result = tasks::within(task, work).await;
            // Sending fails only if the controller's stream was dropped. Then the result is not needed.
            let _ = sender.send(input(result));
        });
        tasks::begin(task, handle.abort_handle());
    }

    /// Reports the result of a reconcile to the host.
    fn finish(&self, task: u64, object: Arc<K>, result: Result<Action, Fut::Error>) -> ReconcileResult<K, Fut::Error> {
        let nanoseconds =
            |action: &Action| action.requeue_after().map(|after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let reference = ObjectRef::from_obj_with(&*object, self.dyntype.clone());
        match result {
            Ok(action) => {
                abi::done(task, nanoseconds(&action), None);
                Ok((reference, action))
            }
            Err(error) => {
                let action = {
                    let _task = tasks::enter(task);
                    (self.error_policy)(object, &error, self.context.clone())
                };
                abi::done(task, nanoseconds(&action), Some(&describe(&error)));
                Err(Error::ReconcilerFailed(error, Box::new(reference.erase())))
            }
        }
    }

    fn map(&mut self, task: u64, watch: usize, object: &[u8], deleted: bool) {
        let _task = tasks::enter(task);
        let warn = |error: serde_json::Error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot deserialize a watched object as the type of its watch"
            );
        };
        let mapper = self.mappers.get(watch).and_then(Option::as_ref);
        let keys = match (WatchedObject::parse(object), mapper) {
            (Ok(watched), Some(mapper)) => {
                let now = match watched.is_partial && deleted {
                    true => None,
                    false => mapper(object).map_err(warn).ok(),
                };
                self.mapped.update(watch, watched.key, now, deleted)
            }
            (Err(error), _) => {
                warn(error);
                Vec::new()
            }
            (Ok(_), None) => Vec::new(),
        };
        abi::mapped(task, &keys.join("\n"));
    }
}

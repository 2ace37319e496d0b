//! The user's reconciler, error policy and mappers, for the dispatcher.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFuture, TryFutureExt};
use kube::api::GetParams;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::Instrument;
use wasmop_runtime::dispatcher::{Done, Ended, Reconciler};
use wasmop_runtime::registration::split_key;

use super::error_chain::describe;

/// Returns the keys that a watched object, given as JSON, belongs to.
pub type Mapper = Box<dyn Fn(&[u8]) -> Result<Vec<String>, serde_json::Error> + Send + Sync>;

/// The result of one reconcile, as the controller's stream yields it.
type ReconcileResult<K, E> = Result<(ObjectRef<K>, Action), Error<E, watcher::Error>>;

/// The functions of one controller.
pub struct Functions<K: Resource, F, ErrorPolicy, Ctx> {
    pub client: Client,
    pub dyntype: K::DynamicType,
    /// Whether the objects to reconcile may be read from the host's cache.
    pub is_cached: bool,
    /// By watch index. `None` for watches that the host maps by owner references.
    pub mappers: Vec<Option<Mapper>>,
    pub reconciler: F,
    pub error_policy: ErrorPolicy,
    pub context: Arc<Ctx>,
}

impl<K, F, Fut, ErrorPolicy, Ctx> Reconciler for Functions<K, F, ErrorPolicy, Ctx>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
    F: FnMut(Arc<K>, Arc<Ctx>) -> Fut,
    Fut: TryFuture<Ok = Action> + Send + 'static,
    Fut::Error: std::error::Error + Send + 'static,
    ErrorPolicy: Fn(Arc<K>, &Fut::Error, Arc<Ctx>) -> Action,
{
    type Object = Arc<K>;
    type ReadError = kube::Error;
    type Action = Action;
    type Error = Fut::Error;
    type Item = ReconcileResult<K, Fut::Error>;

    fn read(&self, key: &str) -> BoxFuture<'static, kube::Result<Option<Arc<K>>>> {
        let (namespace, name) = split_key(key);
        let params = if self.is_cached { GetParams::any() } else { GetParams::default() };
        let request = kube::core::Request::new(K::url_path(&self.dyntype, namespace)).get(name, &params);
        let client = self.client.clone();
        Box::pin(async move {
            match client.request::<K>(request.map_err(kube::Error::BuildRequest)?).await {
                Ok(object) => Ok(Some(Arc::new(object))),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn reconcile(&mut self, object: Arc<K>) -> BoxFuture<'static, Result<Action, Fut::Error>> {
        let reference = ObjectRef::from_obj_with(&*object, self.dyntype.clone());
        let span = tracing::info_span!("reconciling object", object = %reference);
        let reconcile = span.in_scope(|| (self.reconciler)(object, self.context.clone()));
        TryFutureExt::into_future(reconcile).instrument(span).boxed()
    }

    fn end(&mut self, _: &str, ended: Ended<Self>) -> (Done, Option<Self::Item>) {
        let (object, result) = match ended {
            Ended::NotFound => return (Done::default(), None),
            Ended::ReadFailed(error) => {
                let done = Done { requeue_after: None, error: Some(describe(&error)) };
                return (done, Some(Err(Error::QueueError(watcher::Error::WatchFailed(error)))));
            }
            Ended::Reconciled(object, result) => (object, result),
        };
        let reference = ObjectRef::from_obj_with(&*object, self.dyntype.clone());
        match result {
            Ok(action) => (Done { requeue_after: action.requeue_after(), error: None }, Some(Ok((reference, action)))),
            Err(error) => {
                let action = (self.error_policy)(object, &error, self.context.clone());
                let done = Done { requeue_after: action.requeue_after(), error: Some(describe(&error)) };
                (done, Some(Err(Error::ReconcilerFailed(error, Box::new(reference.erase())))))
            }
        }
    }

    fn map(&self, watch: usize, object: &[u8]) -> Option<Vec<String>> {
        let mapper = self.mappers.get(watch)?.as_ref()?;
        let warn = |error: &serde_json::Error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "cannot deserialize a watched object as the type of its watch"
            );
        };
        mapper(object).inspect_err(warn).ok()
    }
}

//! The controller of a program in a host, which watches, filters, queues and retries for it.
//!
//! It has the methods of the controller that it replaces. Those that the host cannot provide call a function of
//! `needs_guest_driven`: `wasmop build` notices that and builds the program with the original controller.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, BoxFuture, Either};
use futures::{FutureExt, Stream, StreamExt, TryFuture, TryFutureExt, stream};
use kube_client::api::{GetParams, ListParams};
use kube_client::client::wasmop_runtime::dispatcher::{Dispatcher, Done, Ended, Reconciler};
use kube_client::client::wasmop_runtime::error_chain::describe;
use kube_client::client::wasmop_runtime::needs_guest_driven;
use kube_client::client::wasmop_runtime::registration::{ControllerSpec, Relation, WatchSpec, namespace_in, split_key};
use kube_client::core::{ObjectList, Request};
use kube_client::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tracing::{Instrument, info_span};

use super::{Action, Backoff, Config, Error, ReconcileReason};
use crate::reflector::{ObjectRef, Store};
use crate::watcher;

/// An error policy that asks for no retry. The host waits for a change if the retry is this far away.
const NO_RETRY: Duration = Duration::MAX;

/// Returns the keys that a watched object, given as JSON, belongs to.
type Mapper = Box<dyn Fn(&[u8]) -> Result<Vec<String>, serde_json::Error> + Send + Sync>;

/// Controller for a Resource `K`
///
/// The host calls it for changes of its objects, and of those that it owns or watches.
pub struct Controller<K>
where
    K: Clone + Resource + Debug + 'static,
    K::DynamicType: Eq + Hash,
{
    client: Client,
    dyntype: K::DynamicType,
    spec: ControllerSpec,
    /// It also delays requeues.
    debounce: Duration,
    /// One for each entry of `spec.watches`. `None` for watches that the host maps by owner references.
    mappers: Vec<Option<Mapper>>,
    shutdown: Vec<BoxFuture<'static, ()>>,
}

impl<K> Controller<K>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Create a Controller for a resource `K`
    #[must_use]
    pub fn new(main_api: Api<K>, wc: watcher::Config) -> Self
    where
        K::DynamicType: Default,
    {
        Self::new_with(main_api, wc, Default::default())
    }

    /// Create a Controller for a resource `K`
    pub fn new_with(main_api: Api<K>, wc: watcher::Config, dyntype: K::DynamicType) -> Self {
        // As from the store of the original, a read is of the last state that the watch has seen, or newer.
        let primary = WatchSpec { cached: true, ..watch_spec::<K>(&dyntype, wc, Relation::Own) };
        let spec = ControllerSpec {
            name: K::kind(&dyntype).to_lowercase(),
            namespace: namespace_of(&main_api, &dyntype),
            max_concurrent_reconciles: 0,
            // As the store of the original, which has no other objects.
            only_existing: true,
            debounce_ms: None,
            primary,
            watches: Vec::new(),
        };
        let (mappers, shutdown, debounce) = (Vec::new(), Vec::new(), Duration::ZERO);
        Controller { client: main_api.into_client(), dyntype, spec, debounce, mappers, shutdown }
    }

    /// Specify the configuration for the controller's behavior.
    #[must_use]
    pub fn with_config(mut self, config: Config) -> Self {
        self.spec.max_concurrent_reconciles = config.concurrency.into();
        self.debounce = config.debounce;
        // The host counts in milliseconds.
        let milliseconds = config.debounce.as_nanos().div_ceil(1_000_000);
        self.spec.debounce_ms = u64::try_from(milliseconds).ok().filter(|milliseconds| *milliseconds > 0);
        self
    }

    /// The host has a backoff of its own.
    #[must_use]
    pub fn trigger_backoff(self, backoff: impl Backoff + 'static) -> Self {
        drop(backoff);
        self
    }

    /// Specify `Child` objects which `K` owns and should be watched
    #[must_use]
    pub fn owns<Child: Clone + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + 'static>(
        self,
        api: Api<Child>,
        wc: watcher::Config,
    ) -> Self {
        self.owns_with(api, (), wc)
    }

    /// Specify `Child` objects which `K` owns and should be watched
    #[must_use]
    pub fn owns_with<Child: Clone + Resource + DeserializeOwned + Debug + Send + 'static>(
        self,
        api: Api<Child>,
        dyntype: Child::DynamicType,
        wc: watcher::Config,
    ) -> Self
    where
        Child::DynamicType: Debug + Eq + Hash + Clone,
    {
        self.watch(&api, &dyntype, wc, Relation::Owner, None)
    }

    /// Specify `Watched` object which `K` has a custom relation to and should be watched
    #[must_use]
    pub fn watches<Other, I>(
        self,
        api: Api<Other>,
        wc: watcher::Config,
        mapper: impl Fn(Other) -> I + Sync + Send + 'static,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Default + Debug + Clone + Eq + Hash,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        self.watches_with(api, Default::default(), wc, mapper)
    }

    /// Specify `Watched` object which `K` has a custom relation to and should be watched
    #[must_use]
    pub fn watches_with<Other, I>(
        self,
        api: Api<Other>,
        dyntype: Other::DynamicType,
        wc: watcher::Config,
        mapper: impl Fn(Other) -> I + Sync + Send + 'static,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
        Other::DynamicType: Debug + Clone + Eq + Hash,
    {
        let mapper: Mapper = Box::new(move |object| {
            Ok(mapper(serde_json::from_slice(object)?).into_iter().map(|it| key_of(&it)).collect())
        });
        self.watch(&api, &dyntype, wc, Relation::Map, Some(mapper))
    }

    fn watch<Other: Resource>(
        mut self,
        api: &Api<Other>,
        dyntype: &Other::DynamicType,
        wc: watcher::Config,
        relation: Relation,
        mapper: Option<Mapper>,
    ) -> Self {
        self.spec.add_watch(watch_spec::<Other>(dyntype, wc, relation), namespace_of(api, dyntype));
        self.mappers.push(mapper);
        self
    }

    /// Start a graceful shutdown when `trigger` resolves: reconciles that have begun end, and then the stream.
    #[must_use]
    pub fn graceful_shutdown_on(mut self, trigger: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        self.shutdown.push(trigger.boxed());
        self
    }

    /// No signal arrives in a host.
    #[must_use]
    pub fn shutdown_on_signal(self) -> Self {
        self
    }

    /// Registers with the host when the stream is first polled, and reconciles while it is polled.
    pub fn run<ReconcilerFut, Ctx>(
        self,
        reconciler: impl FnMut(Arc<K>, Arc<Ctx>) -> ReconcilerFut,
        error_policy: impl Fn(Arc<K>, &ReconcilerFut::Error, Arc<Ctx>) -> Action,
        context: Arc<Ctx>,
    ) -> impl Stream<Item = Result<(ObjectRef<K>, Action), Error<ReconcilerFut::Error, watcher::Error>>>
    where
        K::DynamicType: Debug + Unpin,
        ReconcilerFut: TryFuture<Ok = Action> + Send + 'static,
        ReconcilerFut::Error: std::error::Error + Send + 'static,
    {
        let Controller { client, dyntype, spec, debounce, mappers, mut shutdown } = self;
        shutdown.push(future::pending().boxed());
        let functions = Functions { client, dyntype, debounce, mappers, reconciler, error_policy, context };
        stream::once(async move {
            let dispatcher = Dispatcher::register(&spec.to_json(), functions);
            // Never ready again once it was.
            let shutdown = future::select_all(shutdown).map(drop).fuse();
            stream::unfold((dispatcher, shutdown), |(mut dispatcher, mut shutdown)| async move {
                let next = match future::select(Box::pin(dispatcher.next()), &mut shutdown).await {
                    Either::Left((item, _)) => Some(item),
                    Either::Right(_) => None,
                };
                let item = match next {
                    Some(item) => item,
                    None => {
                        dispatcher.shut_down();
                        dispatcher.next().await
                    }
                };
                Some((item?, (dispatcher, shutdown)))
            })
        })
        .flatten()
    }
}

/// Methods that only the original controller has.
impl<K> Controller<K>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Create a Controller for a resource `K` from a stream of `K` objects
    #[cfg(feature = "unstable-runtime-stream-control")]
    pub fn for_stream(_: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static, _: Store<K>) -> Self
    where
        K::DynamicType: Default,
    {
        needs_guest_driven::for_stream()
    }

    /// Create a Controller for a resource `K` from a stream of `K` objects
    #[cfg(feature = "unstable-runtime-stream-control")]
    pub fn for_stream_with(
        _: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
        _: Store<K>,
        _: K::DynamicType,
    ) -> Self {
        needs_guest_driven::for_stream()
    }

    /// Create a Controller for a resource `K` from a shared stream of `K` objects
    #[cfg(feature = "unstable-runtime-subscribe")]
    pub fn for_shared_stream(_: impl Stream<Item = Arc<K>> + Send + 'static, _: Store<K>) -> Self
    where
        K::DynamicType: Default,
    {
        needs_guest_driven::for_shared_stream()
    }

    /// Create a Controller for a resource `K` from a shared stream of `K` objects
    #[cfg(feature = "unstable-runtime-subscribe")]
    pub fn for_shared_stream_with(
        _: impl Stream<Item = Arc<K>> + Send + 'static,
        _: Store<K>,
        _: K::DynamicType,
    ) -> Self {
        needs_guest_driven::for_shared_stream()
    }

    /// Retrieve a copy of the reader before starting the controller
    pub fn store(&self) -> Store<K> {
        needs_guest_driven::store()
    }

    /// Trigger the reconciliation process for a stream of `Child` objects of the owner `K`
    #[cfg(feature = "unstable-runtime-stream-control")]
    #[must_use]
    pub fn owns_stream<Child: Resource<DynamicType = ()> + Send + 'static>(
        self,
        _: impl Stream<Item = Result<Child, watcher::Error>> + Send + 'static,
    ) -> Self {
        needs_guest_driven::owns_stream()
    }

    /// Trigger the reconciliation process for a stream of `Child` objects of the owner `K`
    #[cfg(feature = "unstable-runtime-stream-control")]
    #[must_use]
    pub fn owns_stream_with<Child: Resource + Send + 'static>(
        self,
        _: impl Stream<Item = Result<Child, watcher::Error>> + Send + 'static,
        _: Child::DynamicType,
    ) -> Self
    where
        Child::DynamicType: Debug + Eq + Hash + Clone,
    {
        needs_guest_driven::owns_stream()
    }

    /// Trigger the reconciliation process for a shared stream of `Child` objects of the owner `K`
    #[cfg(feature = "unstable-runtime-subscribe")]
    #[must_use]
    pub fn owns_shared_stream<Child: Resource<DynamicType = ()> + Send + 'static>(
        self,
        _: impl Stream<Item = Arc<Child>> + Send + 'static,
    ) -> Self {
        needs_guest_driven::owns_shared_stream()
    }

    /// Trigger the reconciliation process for a shared stream of `Child` objects of the owner `K`
    #[cfg(feature = "unstable-runtime-subscribe")]
    #[must_use]
    pub fn owns_shared_stream_with<Child: Resource + Send + 'static>(
        self,
        _: impl Stream<Item = Arc<Child>> + Send + 'static,
        _: Child::DynamicType,
    ) -> Self
    where
        Child::DynamicType: Debug + Eq + Hash + Clone,
    {
        needs_guest_driven::owns_shared_stream()
    }

    /// Trigger the reconciliation process for a stream of `Other` objects related to a `K`
    #[cfg(feature = "unstable-runtime-stream-control")]
    #[must_use]
    pub fn watches_stream<Other, I>(
        self,
        _: impl Stream<Item = Result<Other, watcher::Error>> + Send + 'static,
        _: impl Fn(Other) -> I + Sync + Send + 'static,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Default + Debug + Clone,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        needs_guest_driven::watches_stream()
    }

    /// Trigger the reconciliation process for a stream of `Other` objects related to a `K`
    #[cfg(feature = "unstable-runtime-stream-control")]
    #[must_use]
    pub fn watches_stream_with<Other, I>(
        self,
        _: impl Stream<Item = Result<Other, watcher::Error>> + Send + 'static,
        _: impl Fn(Other) -> I + Sync + Send + 'static,
        _: Other::DynamicType,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Debug + Clone,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        needs_guest_driven::watches_stream()
    }

    /// Trigger the reconciliation process for a shared stream of `Other` objects related to a `K`
    #[cfg(feature = "unstable-runtime-subscribe")]
    #[must_use]
    pub fn watches_shared_stream<Other, I>(
        self,
        _: impl Stream<Item = Arc<Other>> + Send + 'static,
        _: impl Fn(Arc<Other>) -> I + Sync + Send + 'static,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Default + Debug + Clone,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        needs_guest_driven::watches_shared_stream()
    }

    /// Trigger the reconciliation process for a shared stream of `Other` objects related to a `K`
    #[cfg(feature = "unstable-runtime-subscribe")]
    #[must_use]
    pub fn watches_shared_stream_with<Other, I>(
        self,
        _: impl Stream<Item = Arc<Other>> + Send + 'static,
        _: impl Fn(Arc<Other>) -> I + Sync + Send + 'static,
        _: Other::DynamicType,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Debug + Clone,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        needs_guest_driven::watches_shared_stream()
    }

    /// Trigger a reconciliation for all managed objects whenever `trigger` emits a value
    #[must_use]
    pub fn reconcile_all_on(self, _: impl Stream<Item = ()> + Send + 'static) -> Self {
        needs_guest_driven::reconcile_all_on()
    }

    /// Trigger the reconciliation process for a managed object whenever `trigger` emits a value
    #[cfg(feature = "unstable-runtime-reconcile-on")]
    #[must_use]
    pub fn reconcile_on(self, _: impl Stream<Item = ObjectRef<K>> + Send + 'static) -> Self {
        needs_guest_driven::reconcile_on()
    }
}

/// The user's functions for one controller.
struct Functions<K: Resource, F, ErrorPolicy, Ctx> {
    client: Client,
    dyntype: K::DynamicType,
    debounce: Duration,
    mappers: Vec<Option<Mapper>>,
    reconciler: F,
    error_policy: ErrorPolicy,
    context: Arc<Ctx>,
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
    type ReadError = kube_client::Error;
    type Action = Action;
    type Error = Fut::Error;
    type Item = Result<(ObjectRef<K>, Action), Error<Fut::Error, watcher::Error>>;

    fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<Arc<K>>, kube_client::Error>> {
        let (namespace, name) = split_key(key);
        let url = K::url_path(&self.dyntype, namespace);
        let read = read(self.client.clone(), url, name.to_owned());
        Box::pin(async move { Ok(read.await?.map(Arc::new)) })
    }

    fn reconcile(&mut self, object: Arc<K>) -> BoxFuture<'static, Result<Action, Fut::Error>> {
        let reference = ObjectRef::from_obj_with(&*object, self.dyntype.clone());
        // The host does not say why.
        let reason = ReconcileReason::Unknown;
        let span = info_span!("reconciling object", "object.ref" = %reference, object.reason = %reason);
        let reconcile = span.in_scope(|| (self.reconciler)(object, self.context.clone()));
        TryFutureExt::into_future(reconcile).instrument(span).boxed()
    }

    fn end(&mut self, key: &str, ended: Ended<Self>) -> (Done, Option<Self::Item>) {
        let (object, result) = match ended {
            Ended::NotFound => {
                let (namespace, name) = split_key(key);
                let mut reference = ObjectRef::<K>::new_with(name, self.dyntype.clone());
                if let Some(namespace) = namespace {
                    reference = reference.within(namespace);
                }
                return (Done::default(), Some(Err(Error::ObjectNotFound(reference.erase().into()))));
            }
            Ended::ReadFailed(error) => {
                let done = Done { requeue_after: None, error: Some(describe(&error)) };
                return (done, Some(Err(Error::QueueError(watcher::Error::WatchFailed(error)))));
            }
            Ended::Reconciled(object, result) => (object, result),
        };
        let reference = ObjectRef::from_obj_with(&*object, self.dyntype.clone());
        let requeue_after = |action: &Action| action.requeue_after.map(|after| after.saturating_add(self.debounce));
        match result {
            Ok(action) => (Done { requeue_after: requeue_after(&action), error: None }, Some(Ok((reference, action)))),
            Err(error) => {
                let action = (self.error_policy)(object, &error, self.context.clone());
                let requeue_after = requeue_after(&action).or(Some(NO_RETRY));
                let done = Done { requeue_after, error: Some(describe(&error)) };
                (done, Some(Err(Error::ReconcilerFailed(error, reference.erase().into()))))
            }
        }
    }

    fn map(&self, watch: usize, object: &[u8]) -> Option<Vec<String>> {
        let mapper = self.mappers.get(watch)?.as_ref()?;
        let keys = mapper(object);
        if let Err(error) = &keys {
            tracing::warn!(%error, "cannot deserialize a watched object as the type of its watch");
        }
        keys.ok()
    }
}

/// Reads an object at any version, which the host has. `None` if it does not exist.
async fn read<K>(client: Client, url: String, name: String) -> Result<Option<K>, kube_client::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let get = Request::new(url.clone()).get(&name, &GetParams::any()).map_err(kube_client::Error::BuildRequest)?;
    match client.request::<K>(get).await {
        Ok(object) => return Ok(Some(object)),
        Err(kube_client::Error::Api(status)) if status.code == 404 => return Ok(None),
        // A controller needs the rights to list and to watch, and many have no more than those.
        Err(kube_client::Error::Api(status)) if status.code == 403 => {}
        Err(error) => return Err(error),
    }
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let list = Request::new(url).list(&params).map_err(kube_client::Error::BuildRequest)?;
    Ok(client.request::<ObjectList<K>>(list).await?.items.into_iter().next())
}

/// The watch of a kind.
fn watch_spec<K: Resource>(dyntype: &K::DynamicType, wc: watcher::Config, relation: Relation) -> WatchSpec {
    WatchSpec {
        group: K::group(dyntype).into_owned(),
        version: K::version(dyntype).into_owned(),
        kind: K::kind(dyntype).into_owned(),
        plural: K::plural(dyntype).into_owned(),
        relation,
        label_selector: wc.label_selector.unwrap_or_default(),
        field_selector: wc.field_selector.unwrap_or_default(),
        ..WatchSpec::default()
    }
}

/// The namespace of an `Api`, or `None` if it covers all namespaces.
fn namespace_of<K: Resource>(api: &Api<K>, dyntype: &K::DynamicType) -> Option<String> {
    namespace_in(api.resource_url(), &K::url_path(dyntype, None), &K::plural(dyntype)).map(str::to_owned)
}

/// The key of a referenced object in the host's queue.
fn key_of<K: Resource>(object: &ObjectRef<K>) -> String {
    match &object.namespace {
        Some(namespace) => format!("{namespace}/{}", object.name),
        None => object.name.clone(),
    }
}

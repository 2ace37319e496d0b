//! The controller builder in a wasmop host. It registers its watches and reconciles the objects that the host sends.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::{Stream, TryFuture};
use kube::runtime::controller::{Action, Config, Error};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use wasmop_runtime::dispatcher::Dispatcher;
use wasmop_runtime::registration::{ControllerSpec, Relation};

use super::reconciler::{Functions, Mapper};
use crate::key;
use crate::spec::{self, namespace_of};

/// Runs a user-supplied reconciler on objects when they, or objects related to them, change.
///
/// The builder has the methods of [`kube::runtime::Controller`]. Natively it wraps that type. In a wasmop host, the
/// host watches, filters, queues and retries with backoff, so it can suspend the program between reconciles. The
/// program reads each object to reconcile from the API server.
///
/// Differences from `kube::runtime::Controller`:
///
/// * There is no `store()`. [`Controller::cached`] makes the host cache the objects of a watch for all controllers.
/// * If `error_policy` returns [`Action::await_change`], the object is retried with exponential backoff, from 5 ms to
///   1000 s.
/// * The owner may restrict the namespaces that the host watches.
#[must_use = "a controller does nothing until it is run"]
pub struct Controller<K>
where
    K: Resource,
{
    client: Client,
    dyntype: K::DynamicType,
    spec: ControllerSpec,
    /// One for each entry of `spec.watches`.
    mappers: Vec<Option<Mapper>>,
}

impl<K> Controller<K>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Creates a controller for the objects of `main_api` that `config` selects.
    pub fn new(main_api: Api<K>, config: watcher::Config) -> Self
    where
        K::DynamicType: Default,
    {
        Self::new_with(main_api, config, K::DynamicType::default())
    }

    /// Like [`Controller::new`], for kinds known only at run time.
    pub fn new_with(main_api: Api<K>, config: watcher::Config, dyntype: K::DynamicType) -> Self {
        let spec = ControllerSpec {
            name: K::kind(&dyntype).to_lowercase(),
            namespace: namespace_of(&main_api, &dyntype),
            max_concurrent_reconciles: 0,
            only_existing: false,
            debounce_ms: None,
            primary: spec::watch::<K>(&dyntype, config, Relation::Own),
            watches: Vec::new(),
        };
        Controller { client: main_api.into_client(), dyntype, spec, mappers: Vec::new() }
    }

    /// Reconciles an object only if its `metadata.generation` has changed.
    ///
    /// For kinds with a status subresource, this ignores changes to metadata and status.
    pub fn generation_changed(mut self) -> Self {
        self.spec.primary.generation_changed = true;
        self
    }

    /// Reconciles only for changes that satisfy a CEL expression over `object` and `oldObject`.
    ///
    /// The predicate applies to the kind of the last [`new`](Controller::new), [`owns`](Controller::owns) or
    /// [`watches`](Controller::watches) call. `oldObject` is null for a new object. The host evaluates the expression
    /// before it resumes the controller. Deletions and objects that the host sees for the first time
    /// always cause a reconcile.
    ///
    /// ```text
    /// .predicate("object.spec != oldObject.spec || object.metadata.labels != oldObject.metadata.labels")
    /// ```
    pub fn predicate(mut self, cel: impl Into<String>) -> Self {
        self.spec.watches.last_mut().unwrap_or(&mut self.spec.primary).predicate = cel.into();
        self
    }

    /// Makes the host cache the objects of the last [`new`](Controller::new), [`owns`](Controller::owns) or
    /// [`watches`](Controller::watches) call.
    ///
    /// The host then answers reads that any resource version satisfies ([`GetParams::any`](kube::api::GetParams::any),
    /// `ListParams::match_any`) from its memory, including the read of each object to reconcile. Such a read always
    /// reflects this controller's own writes. Natively `kube::runtime` caches the objects to reconcile in any case, and
    /// the API server answers other reads.
    pub fn cached(mut self) -> Self {
        self.spec.watches.last_mut().unwrap_or(&mut self.spec.primary).cached = true;
        self
    }

    /// Makes the host ignore changes that result from this controller's own writes during a reconcile of the same
    /// object. It applies to the same kind as [`cached`](Controller::cached).
    ///
    /// The host can attribute only writes that create an object or name the version they change. These are `replace`
    /// and `replace_status` of an object that was read before, and patches with `metadata.resourceVersion`. Other
    /// writes still cause a reconcile. Natively this method has no effect.
    pub fn ignore_own_writes(mut self) -> Self {
        self.spec.watches.last_mut().unwrap_or(&mut self.spec.primary).ignore_own_writes = true;
        self
    }

    /// Sets the concurrency limit and the debounce. The debounce has no effect in a wasmop host.
    pub fn with_config(mut self, config: Config) -> Self {
        self.spec.max_concurrent_reconciles = config.max_concurrent_reconciles().into();
        self
    }

    /// Reconciles the owner of a child object when the child changes. Owner references identify the owner.
    pub fn owns<Child>(self, api: Api<Child>, config: watcher::Config) -> Self
    where
        Child: Clone + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + 'static,
    {
        self.owns_with(api, (), config)
    }

    /// Like [`Controller::owns`], for kinds known only at run time.
    pub fn owns_with<Child>(self, api: Api<Child>, dyntype: Child::DynamicType, config: watcher::Config) -> Self
    where
        Child: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Child::DynamicType: Debug + Eq + Hash + Clone,
    {
        self.watch(&api, &dyntype, config, Relation::Owner, None)
    }

    /// Reconciles the objects that `mapper` returns when an object of another kind changes.
    ///
    /// The objects that `mapper` returned for the previous version are reconciled as well. For example, if a label
    /// changes from one name to another, both named objects are reconciled. Natively `kube::runtime` reconciles only
    /// the objects that `mapper` returns for the new version.
    pub fn watches<Other, I>(
        self,
        api: Api<Other>,
        config: watcher::Config,
        mapper: impl Fn(Other) -> I + Sync + Send + 'static,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Default + Debug + Clone + Eq + Hash,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        self.watches_with(api, Other::DynamicType::default(), config, mapper)
    }

    /// Like [`Controller::watches`], for kinds known only at run time.
    pub fn watches_with<Other, I>(
        self,
        api: Api<Other>,
        dyntype: Other::DynamicType,
        config: watcher::Config,
        mapper: impl Fn(Other) -> I + Sync + Send + 'static,
    ) -> Self
    where
        Other: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Other::DynamicType: Debug + Clone + Eq + Hash,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        let mapper: Mapper = Box::new(move |object| {
            Ok(mapper(serde_json::from_slice(object)?).into_iter().map(|o| key::of(&o)).collect())
        });
        self.watch(&api, &dyntype, config, Relation::Map, Some(mapper))
    }

    fn watch<Other: Resource>(
        mut self,
        api: &Api<Other>,
        dyntype: &Other::DynamicType,
        config: watcher::Config,
        relation: Relation,
        mapper: Option<Mapper>,
    ) -> Self {
        let watch = spec::watch::<Other>(dyntype, config, relation);
        self.spec.add_watch(watch, namespace_of(api, dyntype));
        self.mappers.push(mapper);
        self
    }

    /// Natively, ends the controller on Ctrl+C or SIGTERM. In a wasmop host this has no effect: the host receives the
    /// signal and suspends the controller.
    pub fn shutdown_on_signal(self) -> Self {
        self
    }

    /// Natively, ends the controller when `trigger` completes. In a wasmop host this has no effect: a controller ends
    /// when its owner removes it.
    pub fn graceful_shutdown_on(self, trigger: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        drop(trigger);
        self
    }

    /// Registers with the host, and reconciles while the stream is polled.
    ///
    /// The stream yields an item for each completed reconcile. It never ends.
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
        let Controller { client, dyntype, spec, mappers } = self;
        let is_cached = spec.primary.cached;
        let functions = Functions { client, dyntype, is_cached, mappers, reconciler, error_policy, context };
        let dispatcher = Dispatcher::register(&spec.to_json(), functions);
        futures::stream::unfold(dispatcher, async |mut dispatcher| {
            let item = dispatcher.next().await?;
            Some((item, dispatcher))
        })
    }
}

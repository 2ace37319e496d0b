//! A controller driven by the host: it registers what it watches, and then reconciles what the
//! host sends.

use std::cell::RefCell;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::{Stream, TryFuture, TryFutureExt};
use kube::api::GetParams;
use kube::runtime::controller::{Action, Config, Error};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::mapped::{Mapped, Source};
use super::{abi, describe, tasks};
use crate::key;
use crate::spec::{ControllerSpec, Relation, WatchSpec, namespace_of};

/// The objects, as keys, that a watched object given as JSON belongs to.
type Mapper = Box<dyn Fn(&[u8]) -> Result<Vec<String>, serde_json::Error> + Send + Sync>;

/// Runs a user-supplied reconciler on objects when they, or objects related to them, change.
///
/// The builder is that of [`kube::runtime::Controller`]. Natively it is that one. In a wasmop host
/// the host does the watching, filtering, queueing and backing off, so that the program can be
/// suspended in between; the object to reconcile is read from the API server.
///
/// Differences from `kube::runtime::Controller`:
///
/// * There is no `store()`. Where a cache is needed, the host has one for all controllers:
///   [`Controller::cached`].
/// * An `error_policy` that returns [`Action::await_change`] means exponential backoff, for each
///   object on its own, from 5 ms to 1000 s.
/// * The owner of the host may limit the namespaces that are watched.
#[must_use = "a controller does nothing until it is run"]
pub struct Controller<K>
where
    K: Resource,
{
    client: Client,
    dyntype: K::DynamicType,
    spec: ControllerSpec,
    /// One for each of `spec.watches`.
    mappers: Vec<Option<Mapper>>,
}

impl<K> Controller<K>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// A controller for the objects of `main_api` that `config` selects.
    pub fn new(main_api: Api<K>, config: watcher::Config) -> Self
    where
        K::DynamicType: Default,
    {
        Self::new_with(main_api, config, K::DynamicType::default())
    }

    /// [`Controller::new`] for kinds known only at run time.
    pub fn new_with(main_api: Api<K>, config: watcher::Config, dyntype: K::DynamicType) -> Self {
        let spec = ControllerSpec {
            name: K::kind(&dyntype).to_lowercase(),
            namespace: namespace_of(&main_api, &dyntype),
            max_concurrent_reconciles: 0,
            primary: WatchSpec::new::<K>(&dyntype, config, Relation::Own),
            watches: Vec::new(),
        };
        Controller { client: main_api.into_client(), dyntype, spec, mappers: Vec::new() }
    }

    /// Reconciles an object only when its `metadata.generation` has changed (its spec, for kinds
    /// with a status subresource), not when only its status or metadata has.
    pub fn generation_changed(mut self) -> Self {
        self.spec.primary.generation_changed = true;
        self
    }

    /// Reconciles only for those changes of the kind named last of which a CEL expression is true: over `object`
    /// and `oldObject`, which is null for a new one. The host evaluates it, before it resumes the controller.
    /// Deletions and what is seen first always count.
    ///
    /// ```text
    /// .predicate("object.spec != oldObject.spec || object.metadata.labels != oldObject.metadata.labels")
    /// ```
    pub fn predicate(mut self, cel: impl Into<String>) -> Self {
        self.spec.watches.last_mut().unwrap_or(&mut self.spec.primary).predicate = cel.into();
        self
    }

    /// Has the host keep the objects of the kind named last: that of [`Controller::new`], or of the last
    /// [`owns`](Controller::owns) or [`watches`](Controller::watches).
    ///
    /// Reads of them that any version answers ([`GetParams::any`], `ListParams::match_any`) come from the
    /// host's memory then, never older than what this controller has written itself. Objects to
    /// reconcile are read so as well. Natively `kube::runtime` caches the objects to reconcile anyway, and
    /// the API server answers the others.
    pub fn cached(mut self) -> Self {
        self.spec.watches.last_mut().unwrap_or(&mut self.spec.primary).cached = true;
        self
    }

    /// Has the host leave out changes of the kind named last (see [`cached`](Controller::cached)) that this controller
    /// made itself: what it writes while it reconciles an object does not have that object reconciled again.
    ///
    /// Only of writes that create an object or say which version they change is that certain: `replace` and
    /// `replace_status` of what was read before, and patches with `metadata.resourceVersion`. Others count as
    /// ever. Natively it has no effect.
    pub fn ignore_own_writes(mut self) -> Self {
        self.spec.watches.last_mut().unwrap_or(&mut self.spec.primary).ignore_own_writes = true;
        self
    }

    /// Limits and timing. `debounce` is the host's business and has no effect there.
    pub fn with_config(mut self, config: Config) -> Self {
        self.spec.max_concurrent_reconciles = config.max_concurrent_reconciles().into();
        self
    }

    /// Reconciles the owner of a child, found by its owner references, when the child changes.
    pub fn owns<Child>(self, api: Api<Child>, config: watcher::Config) -> Self
    where
        Child: Clone + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + 'static,
    {
        self.owns_with(api, (), config)
    }

    /// [`Controller::owns`] for kinds known only at run time.
    pub fn owns_with<Child>(self, api: Api<Child>, dyntype: Child::DynamicType, config: watcher::Config) -> Self
    where
        Child: Clone + Resource + DeserializeOwned + Debug + Send + 'static,
        Child::DynamicType: Debug + Eq + Hash + Clone,
    {
        self.watch(&api, &dyntype, config, Relation::Owner, None)
    }

    /// Reconciles the objects that `mapper` returns when an object of another kind changes, together with those that it
    /// returned for that object before: after a label has moved from one name to another, both are reconciled.
    ///
    /// Natively `kube::runtime` reconciles only what `mapper` returns now.
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

    /// [`Controller::watches`] for kinds known only at run time.
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
        let mut watch = WatchSpec::new::<Other>(dyntype, config, relation);
        let namespace = namespace_of(api, dyntype);
        if namespace != self.spec.namespace {
            // Of a kind without namespaces this changes nothing.
            watch.namespace = Some(namespace.unwrap_or_default());
        }
        self.spec.watches.push(watch);
        self.mappers.push(mapper);
        self
    }

    /// Natively, ends the controller on Ctrl+C or SIGTERM. In a wasmop host it is the host that
    /// gets the signal, and that suspends the controller.
    pub fn shutdown_on_signal(self) -> Self {
        self
    }

    /// Natively, ends the controller when `trigger` is ready. In a wasmop host a controller ends
    /// only by being removed there, and `trigger` is not awaited.
    pub fn graceful_shutdown_on(self, trigger: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        drop(trigger);
        self
    }

    /// Registers with the host, and reconciles as long as the stream is polled.
    ///
    /// The stream has an item for each reconcile that has ended; it does not end.
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
        let (sender, messages) = mpsc::unbounded_channel();
        register(&spec, sender.clone());
        let is_cached = spec.primary.cached;
        let mapped = Mapped::default();
        let running =
            Running { client, is_cached, dyntype, mappers, mapped, sender, reconciler, error_policy, context };
        futures::stream::unfold((running, messages), async |(mut running, mut messages)| {
            loop {
                // The sender is in `running`, so the channel stays open.
                let message = messages.recv().await?;
                if let Some(item) = running.on_message(message) {
                    return Some((item, (running, messages)));
                }
            }
        })
    }
}

/// What a running controller has to deal with.
enum Message<K, E> {
    FromHost(FromHost),
    /// The object to reconcile has been read; `None`: it is gone.
    Read {
        task: u64,
        object: Result<Option<K>, kube::Error>,
    },
    Reconciled {
        task: u64,
        object: Arc<K>,
        result: Result<Action, E>,
    },
}

/// The host's events for one controller.
pub enum FromHost {
    Reconcile { task: u64, key: String },
    Map { task: u64, watch: usize, object: Vec<u8>, gone: bool },
}

struct Running<K: Resource, Reconciler, ErrorPolicy, Ctx, E> {
    client: Client,
    /// The objects to reconcile are.
    is_cached: bool,
    dyntype: K::DynamicType,
    mappers: Vec<Option<Mapper>>,
    /// What they have returned.
    mapped: Mapped,
    sender: mpsc::UnboundedSender<Message<K, E>>,
    reconciler: Reconciler,
    error_policy: ErrorPolicy,
    context: Arc<Ctx>,
}

type Item<K, E> = Result<(ObjectRef<K>, Action), Error<E, watcher::Error>>;

impl<K, Reconciler, Fut, ErrorPolicy, Ctx> Running<K, Reconciler, ErrorPolicy, Ctx, Fut::Error>
where
    K: Clone + Resource + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
    Reconciler: FnMut(Arc<K>, Arc<Ctx>) -> Fut,
    Fut: TryFuture<Ok = Action> + Send + 'static,
    Fut::Error: std::error::Error + Send + 'static,
    ErrorPolicy: Fn(Arc<K>, &Fut::Error, Arc<Ctx>) -> Action,
{
    fn on_message(&mut self, message: Message<K, Fut::Error>) -> Option<Item<K, Fut::Error>> {
        match message {
            Message::FromHost(FromHost::Reconcile { task, key }) => self.read(task, &key),
            Message::FromHost(FromHost::Map { task, watch, object, gone }) => self.map(task, watch, &object, gone),
            // What the host has cancelled meanwhile, it has forgotten.
            Message::Read { task, .. } if !tasks::is_under_way(task) => {}
            Message::Read { task, object: Ok(Some(object)) } => self.reconcile(task, object),
            Message::Read { task, object: Ok(None) } => {
                tasks::end(task);
                abi::done(task, None, None);
            }
            Message::Read { task, object: Err(error) } => {
                tasks::end(task);
                abi::done(task, None, Some(&describe(&error)));
                return Some(Err(Error::QueueError(watcher::Error::WatchFailed(error))));
            }
            Message::Reconciled { task, object, result } => {
                if tasks::end(task) {
                    return Some(self.finish(task, object, result));
                }
            }
        }
        None
    }

    /// Reads the object that is to be reconciled.
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
        self.spawn(task, read, move |object| Message::Read { task, object });
    }

    fn reconcile(&mut self, task: u64, object: K) {
        let span = tracing::info_span!("reconciling object", object = %ObjectRef::from_obj_with(&object, self.dyntype.clone()));
        let object = Arc::new(object);
        let reconcile = {
            let _entered = tasks::enter(task);
            let _span = span.enter();
            TryFutureExt::into_future((self.reconciler)(object.clone(), self.context.clone()))
        };
        self.spawn(task, reconcile.instrument(span), move |result| Message::Reconciled { task, object, result });
    }

    fn spawn<T>(
        &self,
        task: u64,
        work: impl Future<Output = T> + Send + 'static,
        message: impl FnOnce(T) -> Message<K, Fut::Error> + Send + 'static,
    ) {
        let sender = self.sender.clone();
        let handle = tokio::spawn(async move {
            let result = tasks::within(task, work).await;
            // Fails only if the stream is gone, and then nobody wants to know.
            let _ = sender.send(message(result));
        });
        tasks::begin(task, handle.abort_handle());
    }

    fn finish(&self, task: u64, object: Arc<K>, result: Result<Action, Fut::Error>) -> Item<K, Fut::Error> {
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
                    let _entered = tasks::enter(task);
                    (self.error_policy)(object, &error, self.context.clone())
                };
                abi::done(task, nanoseconds(&action), Some(&describe(&error)));
                Err(Error::ReconcilerFailed(error, Box::new(reference.erase())))
            }
        }
    }

    fn map(&mut self, task: u64, watch: usize, object: &[u8], gone: bool) {
        let _entered = tasks::enter(task);
        let not_its_type = |error: serde_json::Error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a watched object is not of the type it is watched as"
            );
        };
        let mapper = self.mappers.get(watch).and_then(Option::as_ref);
        let keys = match (Source::of(object), mapper) {
            (Ok(source), Some(mapper)) => {
                let now = match source.is_partial && gone {
                    true => None,
                    false => mapper(object).map_err(not_its_type).ok(),
                };
                self.mapped.change(watch, source.key, now, gone)
            }
            (Err(error), _) => {
                not_its_type(error);
                Vec::new()
            }
            (Ok(_), None) => Vec::new(),
        };
        abi::mapped(task, &keys.join("\n"));
    }
}

/// Where a controller takes the host's events; false if it is gone.
type Sink = Box<dyn Fn(FromHost) -> bool>;

thread_local! {
    /// By the index that the host knows a controller by.
    static CONTROLLERS: RefCell<Vec<Sink>> = const { RefCell::new(Vec::new()) };
}

fn register<K: 'static, E: 'static>(spec: &ControllerSpec, sender: mpsc::UnboundedSender<Message<K, E>>) {
    let spec = serde_json::to_string(spec).expect("a spec is strings and numbers");
    let index = abi::register(&spec);
    CONTROLLERS.with_borrow_mut(|controllers| {
        assert_eq!(controllers.len(), index as usize, "the host counts controllers in the order they register");
        controllers.push(Box::new(move |event| sender.send(Message::FromHost(event)).is_ok()));
    });
}

fn deliver(index: usize, event: FromHost) -> bool {
    CONTROLLERS.with_borrow(|controllers| controllers.get(index).is_some_and(|sink| sink(event)))
}

/// The host's `reconcile`.
pub fn on_reconcile(task: u64, index: u32, key: &[u8]) {
    let key = String::from_utf8_lossy(key).into_owned();
    if !deliver(index as usize, FromHost::Reconcile { task, key }) {
        abi::done(task, None, Some("the controller has ended: its stream was dropped"));
    }
}

/// The host's `map`.
pub fn on_map(task: u64, aux: u32, object: Vec<u8>) {
    let (index, watch, gone) = (aux >> 16, aux & 0x7fff, aux & 0x8000 != 0);
    if !deliver(index as usize, FromHost::Map { task, watch: watch as usize, object, gone }) {
        abi::mapped(task, "");
    }
}

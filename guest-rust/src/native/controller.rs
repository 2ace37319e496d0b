//! The native controller builder. It wraps kube-runtime's controller.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, TryFuture};
use kube::runtime::controller::{self, Action, Config, Error};
use kube::runtime::reflector::{ObjectRef, reflector, store::Writer};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::key;

/// A builder call that [`Controller::run`] applies.
type BuilderCall<K> = Box<dyn FnOnce(controller::Controller<K>) -> controller::Controller<K> + Send>;

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
    K: Clone + Resource + Debug + 'static,
    K::DynamicType: Eq + Hash,
{
    api: Api<K>,
    config: watcher::Config,
    dyntype: K::DynamicType,
    generation_changed: bool,
    calls: Vec<BuilderCall<K>>,
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
        Controller { api: main_api, config, dyntype, generation_changed: false, calls: Vec::new() }
    }

    fn with(
        mut self,
        call: impl FnOnce(controller::Controller<K>) -> controller::Controller<K> + Send + 'static,
    ) -> Self {
        self.calls.push(Box::new(call));
        self
    }

    /// Reconciles an object only if its `metadata.generation` has changed.
    ///
    /// For kinds with a status subresource, this ignores changes to metadata and status.
    pub fn generation_changed(mut self) -> Self {
        self.generation_changed = true;
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
    pub fn predicate(self, _cel: impl Into<String>) -> Self {
        self
    }

    /// Sets the concurrency limit and the debounce. The debounce has no effect in a wasmop host.
    pub fn with_config(self, config: Config) -> Self {
        self.with(|controller| controller.with_config(config))
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
        Child::DynamicType: Debug + Eq + Hash + Clone + Send,
    {
        self.with(|controller| controller.owns_with(api, dyntype, config))
    }

    /// Makes the host cache the objects of the last [`new`](Controller::new), [`owns`](Controller::owns) or
    /// [`watches`](Controller::watches) call.
    ///
    /// The host then answers reads that any resource version satisfies ([`GetParams::any`](kube::api::GetParams::any),
    /// `ListParams::match_any`) from its memory, including the read of each object to reconcile. Such a read always
    /// reflects this controller's own writes. Natively `kube::runtime` caches the objects to reconcile in any case, and
    /// the API server answers other reads.
    pub fn cached(self) -> Self {
        self
    }

    /// Makes the host ignore changes that result from this controller's own writes during a reconcile of the same
    /// object. It applies to the same kind as [`cached`](Controller::cached).
    ///
    /// The host can attribute only writes that create an object or name the version they change. These are `replace`
    /// and `replace_status` of an object that was read before, and patches with `metadata.resourceVersion`. Other
    /// writes still cause a reconcile. Natively this method has no effect.
    pub fn ignore_own_writes(self) -> Self {
        self
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
        Other::DynamicType: Default + Debug + Clone + Eq + Hash + Send,
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
        Other::DynamicType: Debug + Clone + Eq + Hash + Send,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        self.with(|controller| controller.watches_with(api, dyntype, config, mapper))
    }

    /// Natively, ends the controller on Ctrl+C or SIGTERM. In a wasmop host this has no effect: the host receives the
    /// signal and suspends the controller.
    pub fn shutdown_on_signal(self) -> Self {
        self.with(controller::Controller::shutdown_on_signal)
    }

    /// Natively, ends the controller when `trigger` completes. In a wasmop host this has no effect: a controller ends
    /// when its owner removes it.
    pub fn graceful_shutdown_on(self, trigger: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        self.with(|controller| controller.graceful_shutdown_on(trigger))
    }

    /// Reconciles while the stream is polled. The stream yields an item for each completed reconcile.
    pub fn run<ReconcilerFut, Ctx>(
        self,
        reconciler: impl FnMut(Arc<K>, Arc<Ctx>) -> ReconcilerFut,
        error_policy: impl Fn(Arc<K>, &ReconcilerFut::Error, Arc<Ctx>) -> Action,
        context: Arc<Ctx>,
    ) -> impl Stream<Item = Result<(ObjectRef<K>, Action), Error<ReconcilerFut::Error, watcher::Error>>>
    where
        K::DynamicType: Debug + Unpin + Send + Sync,
        ReconcilerFut: TryFuture<Ok = Action> + Send + 'static,
        ReconcilerFut::Error: std::error::Error + Send + 'static,
    {
        let Controller { api, config, dyntype, generation_changed, calls } = self;
        let writer = Writer::<K>::new(dyntype.clone());
        let reader = writer.as_reader();
        let objects = reflector(writer, watcher(api, config)).applied_objects();
        let objects = if generation_changed {
            // The finalizer helper relies on a reconcile for its own change.
            let predicate = predicates::generation.combine(predicates::finalizers);
            objects.predicate_filter(predicate, PredicateConfig::default()).boxed()
        } else {
            objects.boxed()
        };
        let mut controller = controller::Controller::for_stream_with(objects, reader, dyntype.clone());
        for call in calls {
            controller = call(controller);
        }

        let failures = Arc::new(Failures::default());
        let succeeded = failures.clone();
        let error_policy = move |object: Arc<K>, error: &ReconcilerFut::Error, context: Arc<Ctx>| {
            let key = key::of(&ObjectRef::from_obj_with(&*object, dyntype.clone()));
            match error_policy(object, error, context) {
                action if action == Action::await_change() => Action::requeue(failures.next_delay(key)),
                action => action,
            }
        };
        controller.run(reconciler, error_policy, context).inspect(move |item| {
            if let Ok((object, _)) = item {
                succeeded.forget(&key::of(object));
            }
        })
    }
}

/// The number of consecutive failures of each object.
#[derive(Default)]
struct Failures {
    by_key: Mutex<HashMap<String, u32>>,
}

impl Failures {
    /// The delays of client-go's work queues and of the wasmop host.
    const FIRST_DELAY: Duration = Duration::from_millis(5);
    const LONGEST_DELAY: Duration = Duration::from_secs(1000);

    fn next_delay(&self, key: String) -> Duration {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = by_key.entry(key).or_default();
        let factor = 1_u32.checked_shl(*failures).unwrap_or(u32::MAX);
        *failures = failures.saturating_add(1);
        Self::FIRST_DELAY.saturating_mul(factor).min(Self::LONGEST_DELAY)
    }

    fn forget(&self, key: &str) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_an_object_doubles_until_it_succeeds() {
        let failures = Failures::default();
        let delay = |key: &str| failures.next_delay(key.to_owned()).as_millis();
        assert_eq!([delay("a"), delay("a"), delay("b"), delay("a")], [5, 10, 5, 20]);
        failures.forget("a");
        assert_eq!([delay("a"), delay("b")], [5, 10]);
        for _ in 0..100 {
            delay("b");
        }
        assert_eq!(delay("b"), 1_000_000);
    }
}

//! kube-runtime's controller behind the builder that `wasmop` has on wasm too.

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

/// A builder call that waits for [`Controller::run`].
type Setup<K> = Box<dyn FnOnce(controller::Controller<K>) -> controller::Controller<K> + Send>;

/// Runs a user-supplied reconciler on objects when they, or objects related to them, change.
///
/// The builder is that of [`kube::runtime::Controller`]. Natively it is that one. In a wasmop host
/// the host does the watching, filtering, queueing and backing off, so that the program can be
/// suspended in between; the object to reconcile is read from the API server.
///
/// Differences from `kube::runtime::Controller`:
///
/// * There is no `store()`: in a host nothing is cached. Use `kube::runtime::Controller` or
///   `reflector` where a cache is needed.
/// * An `error_policy` that returns [`Action::await_change`] means exponential backoff, for each
///   object on its own, from 5 ms to 1000 s.
/// * In a host, kinds are watched in the namespace of the main `Api`, or in all if it has none.
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
    setup: Vec<Setup<K>>,
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
        Controller { api: main_api, config, dyntype, generation_changed: false, setup: Vec::new() }
    }

    fn with(
        mut self,
        setup: impl FnOnce(controller::Controller<K>) -> controller::Controller<K> + Send + 'static,
    ) -> Self {
        self.setup.push(Box::new(setup));
        self
    }

    /// Reconciles an object only when its `metadata.generation` has changed (its spec, for kinds
    /// with a status subresource), not when only its status or metadata has.
    pub fn generation_changed(mut self) -> Self {
        self.generation_changed = true;
        self
    }

    /// Reconciles only for those changes of the kind named last of which a CEL expression is true: over `object`
    /// and `oldObject`, which is null for a new one. The host evaluates it, before it resumes the controller.
    /// Deletions and what is seen first always count. Natively it has no effect: all changes count.
    ///
    /// ```text
    /// .predicate("object.spec != oldObject.spec || object.metadata.labels != oldObject.metadata.labels")
    /// ```
    pub fn predicate(self, _cel: impl Into<String>) -> Self {
        self
    }

    /// Limits and timing. In a host `debounce` has no effect.
    pub fn with_config(self, config: Config) -> Self {
        self.with(|controller| controller.with_config(config))
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
        Child::DynamicType: Debug + Eq + Hash + Clone + Send,
    {
        self.with(|controller| controller.owns_with(api, dyntype, config))
    }

    /// Has a wasmop host keep the objects of the kind named last, for reads that any version answers
    /// (`GetParams::any`, `ListParams::match_any`). Natively the objects to reconcile are cached anyway,
    /// and the API server answers the others.
    pub fn cached(self) -> Self {
        self
    }

    /// Has a wasmop host leave out changes of the kind named last that this controller made itself. Natively it has no
    /// effect.
    pub fn ignore_own_writes(self) -> Self {
        self
    }

    /// Reconciles the objects that `mapper` returns when an object of another kind changes.
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
        Other::DynamicType: Debug + Clone + Eq + Hash + Send,
        I: 'static + IntoIterator<Item = ObjectRef<K>>,
        I::IntoIter: Send,
    {
        self.with(|controller| controller.watches_with(api, dyntype, config, mapper))
    }

    /// Ends the controller on Ctrl+C or SIGTERM. In a wasmop host it is the host that gets the
    /// signal, and that suspends the controller.
    pub fn shutdown_on_signal(self) -> Self {
        self.with(controller::Controller::shutdown_on_signal)
    }

    /// Ends the controller when `trigger` is ready. In a wasmop host a controller ends only by
    /// being removed there, and `trigger` is not awaited.
    pub fn graceful_shutdown_on(self, trigger: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        self.with(|controller| controller.graceful_shutdown_on(trigger))
    }

    /// Reconciles as long as the stream is polled. It has an item for each reconcile that has ended.
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
        let Controller { api, config, dyntype, generation_changed, setup } = self;
        let writer = Writer::<K>::new(dyntype.clone());
        let reader = writer.as_reader();
        let objects = reflector(writer, watcher(api, config)).applied_objects();
        let objects = if generation_changed {
            // The finalizer helper counts on being called again for the change that it makes.
            let predicate = predicates::generation.combine(predicates::finalizers);
            objects.predicate_filter(predicate, PredicateConfig::default()).boxed()
        } else {
            objects.boxed()
        };
        let mut controller = controller::Controller::for_stream_with(objects, reader, dyntype.clone());
        for setup in setup {
            controller = setup(controller);
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

/// How often each object has failed in a row.
#[derive(Default)]
struct Failures {
    by_key: Mutex<HashMap<String, u32>>,
}

impl Failures {
    /// Those of client-go's work queues, and of the wasmop host.
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
    fn delays_double_for_each_object_until_it_succeeds() {
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

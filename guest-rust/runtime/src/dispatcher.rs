//! Turns the host's events for one controller into calls of its reconciler, error policy and mappers.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::mapped_keys::{MappedKeys, WatchedObject};
use crate::registry::{self, HostEvent};
use crate::{abi, tasks};

/// A program's side of a controller.
pub trait Reconciler {
    /// An object to reconcile.
    type Object: Clone + Send + 'static;
    /// Why an object cannot be read.
    type ReadError: Error + Send + 'static;
    /// The result of a successful reconcile.
    type Action: Send + 'static;
    /// Why a reconcile failed.
    type Error: Send + 'static;
    /// What the controller's stream yields.
    type Item;

    /// Reads the object with a key. `None` means that it does not exist.
    fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<Self::Object>, Self::ReadError>>;

    /// Begins a reconcile.
    fn reconcile(&mut self, object: Self::Object) -> BoxFuture<'static, Result<Self::Action, Self::Error>>;

    /// Decides what follows from a reconcile that has ended: what the host is told, and what the stream yields.
    fn end(&mut self, key: &str, ended: Ended<Self>) -> (Done, Option<Self::Item>);

    /// Returns the keys that a watched object, given as JSON, belongs to now. `None` if they are unknown.
    fn map(&self, watch: usize, object: &[u8]) -> Option<Vec<String>>;
}

/// How a reconcile ended.
pub enum Ended<R: Reconciler + ?Sized> {
    /// The object does not exist.
    NotFound,
    /// The object cannot be read.
    ReadFailed(R::ReadError),
    /// The reconciler has returned.
    Reconciled(R::Object, Result<R::Action, R::Error>),
}

/// What the host is told of a reconcile that has ended.
#[derive(Debug, Default, PartialEq)]
pub struct Done {
    /// When the object is reconciled again without a change.
    pub requeue_after: Option<Duration>,
    /// The error. Without `requeue_after` the host retries with backoff.
    pub error: Option<String>,
}

/// An input of the dispatcher.
enum Input<O, ReadError, A, E> {
    FromHost(HostEvent),
    /// The object to reconcile has been read.
    Read {
        task: u64,
        key: String,
        object: Result<Option<O>, ReadError>,
    },
    /// The reconciler has returned.
    Reconciled {
        task: u64,
        key: String,
        object: O,
        result: Result<A, E>,
    },
}

type InputOf<R> =
    Input<<R as Reconciler>::Object, <R as Reconciler>::ReadError, <R as Reconciler>::Action, <R as Reconciler>::Error>;

/// Runs the reconciles and mappings of one controller.
pub struct Dispatcher<R: Reconciler> {
    reconciler: R,
    /// The previous results of its mappers.
    mapped: MappedKeys,
    /// Where tasks send their results. The same channel as the host's events, so it stays open.
    sender: mpsc::UnboundedSender<InputOf<R>>,
    inputs: mpsc::UnboundedReceiver<InputOf<R>>,
    /// Reconciles that have begun. The host may have cancelled some since.
    begun: BTreeSet<u64>,
    /// The host's index.
    index: usize,
    /// No reconcile begins any more.
    is_ending: bool,
}

impl<R: Reconciler> Dispatcher<R> {
    /// Registers a controller with the host. `spec` is the JSON of a
    /// [`ControllerSpec`](crate::registration::ControllerSpec).
    pub fn register(spec: &str, reconciler: R) -> Dispatcher<R> {
        let (sender, inputs) = mpsc::unbounded_channel();
        let host_events = sender.clone();
        let index = registry::register(spec, move |event| host_events.send(Input::FromHost(event)).is_ok());
        let (mapped, begun) = Default::default();
        Dispatcher { reconciler, mapped, sender, inputs, begun, index, is_ending: false }
    }

    /// Returns what the stream yields next, or `None` if the controller has ended.
    pub async fn next(&mut self) -> Option<R::Item> {
        loop {
            if self.is_ending && !self.begun.iter().any(|task| tasks::is_in_progress(*task)) {
                registry::end(self.index);
                return None;
            }
            let input = self.inputs.recv().await?;
            if let Some(item) = self.on_input(input) {
                return Some(item);
            }
        }
    }

    /// Lets reconciles that have begun end, and begins no more. Then [`Dispatcher::next`] returns `None`.
    pub fn shut_down(&mut self) {
        self.is_ending = true;
    }

    fn on_input(&mut self, input: InputOf<R>) -> Option<R::Item> {
        match input {
            Input::FromHost(HostEvent::Reconcile { task, .. }) if self.is_ending => abi::done(task, None, None),
            Input::FromHost(HostEvent::Map { task, .. }) if self.is_ending => abi::mapped(task, ""),
            Input::FromHost(HostEvent::Reconcile { task, key }) => {
                let read = self.reconciler.read(&key);
                self.spawn(task, read, move |object| Input::Read { task, key, object });
            }
            Input::FromHost(HostEvent::Map { task, watch, object, deleted }) => {
                let keys = self.map(task, watch, &object, deleted);
                abi::mapped(task, &keys.join("\n"));
            }
            // The host has cancelled this task and expects no `done`.
            Input::Read { task, .. } | Input::Reconciled { task, .. } if !tasks::is_in_progress(task) => {
                self.begun.remove(&task);
            }
            Input::Read { task, key, object: Ok(Some(object)) } => {
                let reconcile = {
                    let _task = tasks::enter(task);
                    self.reconciler.reconcile(object.clone())
                };
                self.spawn(task, reconcile, move |result| Input::Reconciled { task, key, object, result });
            }
            Input::Read { task, key, object: Ok(None) } => return self.end(task, &key, Ended::NotFound),
            Input::Read { task, key, object: Err(error) } => return self.end(task, &key, Ended::ReadFailed(error)),
            Input::Reconciled { task, key, object, result } => {
                return self.end(task, &key, Ended::Reconciled(object, result));
            }
        }
        None
    }

    fn spawn<T: Send + 'static>(
        &mut self,
        task: u64,
        work: BoxFuture<'static, T>,
        input: impl FnOnce(T) -> InputOf<R> + Send + 'static,
    ) {
        let sender = self.sender.clone();
        let handle = tokio::spawn(async move {
            let result = tasks::within(task, work).await;
            // Sending fails only if the controller's stream was dropped. Then the result is not needed.
            let _ = sender.send(input(result));
        });
        tasks::begin(task, handle.abort_handle());
        self.begun.insert(task);
    }

    /// Tells the host that a reconcile has ended.
    fn end(&mut self, task: u64, key: &str, ended: Ended<R>) -> Option<R::Item> {
        self.begun.remove(&task);
        tasks::end(task);
        let (done, item) = {
            let _task = tasks::enter(task);
            self.reconciler.end(key, ended)
        };
        let nanoseconds = done.requeue_after.map(|after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        abi::done(task, nanoseconds, done.error.as_deref());
        item
    }

    fn map(&mut self, task: u64, watch: usize, object: &[u8], deleted: bool) -> Vec<String> {
        let _task = tasks::enter(task);
        // Without its name nothing is known of it, so the mapper says what is wrong with it.
        let Ok(watched) = WatchedObject::parse(object) else {
            return self.reconciler.map(watch, object).unwrap_or_default();
        };
        let now = match watched.is_partial && deleted {
            true => None,
            false => self.reconciler.map(watch, object),
        };
        self.mapped.update(watch, watched.key, now, deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Reconciles the objects `a`, which succeeds, `b`, which fails, and `c`, which never ends.
    struct Letters;

    #[derive(Debug)]
    struct Unreadable;

    impl std::fmt::Display for Unreadable {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("unreadable")
        }
    }

    impl Error for Unreadable {}

    impl Reconciler for Letters {
        type Object = char;
        type ReadError = Unreadable;
        type Action = Duration;
        type Error = &'static str;
        type Item = String;

        fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<char>, Unreadable>> {
            let name = key.split('/').next_back().unwrap_or_default();
            Box::pin(ready(match name {
                "gone" => Ok(None),
                "broken" => Err(Unreadable),
                name => Ok(name.chars().next()),
            }))
        }

        fn reconcile(&mut self, object: char) -> BoxFuture<'static, Result<Duration, &'static str>> {
            match object {
                'a' => Box::pin(ready(Ok(Duration::from_nanos(5)))),
                'b' => Box::pin(ready(Err("no luck"))),
                _ => Box::pin(pending()),
            }
        }

        fn end(&mut self, key: &str, ended: Ended<Letters>) -> (Done, Option<String>) {
            match ended {
                Ended::NotFound => (Done::default(), None),
                Ended::ReadFailed(error) => {
                    (Done { requeue_after: None, error: Some(error.to_string()) }, Some(format!("{key} {error}")))
                }
                Ended::Reconciled(_, Ok(after)) => {
                    (Done { requeue_after: Some(after), error: None }, Some(format!("{key} reconciled")))
                }
                Ended::Reconciled(_, Err(error)) => {
                    let done = Done { requeue_after: Some(Duration::MAX), error: Some(error.to_owned()) };
                    (done, Some(format!("{key} failed")))
                }
            }
        }

        fn map(&self, _: usize, object: &[u8]) -> Option<Vec<String>> {
            let object: serde_json::Value = serde_json::from_slice(object).ok()?;
            Some(object["for"].as_str().map(str::to_owned).into_iter().collect())
        }
    }

    /// Runs a test on a runtime, with the calls that the host has received.
    fn on_runtime(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(tokio::task::LocalSet::new().run_until(test));
    }

    /// The calls of the host, without hints about running tasks.
    fn recorded() -> Vec<String> {
        abi::recorded().into_iter().filter(|call| !call.starts_with("enter")).collect()
    }

    #[test]
    fn the_host_is_told_how_each_reconcile_ends() {
        on_runtime(async {
            let mut dispatcher = Dispatcher::register("{}", Letters);
            assert_eq!(recorded(), ["register {}"]);
            for (task, key, item, done) in [
                (1, "ns/a", "ns/a reconciled", "done 1 requeue Some(5) error None".to_owned()),
                (2, "b", "b failed", format!("done 2 requeue Some({}) error Some(\"no luck\")", u64::MAX)),
                (3, "broken", "broken unreadable", "done 3 requeue None error Some(\"unreadable\")".to_owned()),
            ] {
                registry::on_reconcile(task, 0, key.as_bytes());
                assert_eq!(dispatcher.next().await.as_deref(), Some(item));
                assert_eq!(recorded(), [done]);
            }
            // A missing object yields nothing.
            registry::on_reconcile(4, 0, b"gone");
            registry::on_reconcile(5, 0, b"a");
            assert_eq!(dispatcher.next().await.as_deref(), Some("a reconciled"));
            assert_eq!(recorded(), ["done 4 requeue None error None", "done 5 requeue Some(5) error None"]);
        });
    }

    #[test]
    fn a_watched_object_is_mapped_to_what_it_belongs_to_and_belonged_to() {
        on_runtime(async {
            let mut dispatcher = Dispatcher::register("{}", Letters);
            let watch = |watch: u32, flags: u32| 0 << 16 | flags | watch;
            registry::on_map(1, watch(0, 0), br#"{"metadata":{"name":"x"},"for":"a"}"#.to_vec());
            registry::on_map(2, watch(0, 0), br#"{"metadata":{"name":"x"},"for":"b"}"#.to_vec());
            let gone = br#"{"kind":"PartialObjectMetadata","metadata":{"name":"x"}}"#;
            registry::on_map(3, watch(0, 0x8000), gone.to_vec());
            registry::on_reconcile(4, 0, b"a");
            dispatcher.next().await;
            let mapped = [r#"mapped 1 "a""#, r#"mapped 2 "a\nb""#, r#"mapped 3 "b""#];
            assert_eq!(recorded()[1..4], mapped);
        });
    }

    #[test]
    fn a_shutdown_waits_for_reconciles_that_have_begun() {
        on_runtime(async {
            let mut dispatcher = Dispatcher::register("{}", Letters);
            registry::on_reconcile(1, 0, b"c");
            tokio::select! {
                biased;
                _ = dispatcher.next() => unreachable!("it never ends"),
                () = async { for _ in 0..10 { tokio::task::yield_now().await } } => {}
            }
            dispatcher.shut_down();
            registry::on_reconcile(2, 0, b"a");
            tokio::select! {
                biased;
                _ = dispatcher.next() => unreachable!("task 1 is in progress"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(recorded()[1..], ["done 2 requeue None error None"]);
            tasks::cancel(1);
            assert_eq!(dispatcher.next().await, None);
            registry::on_reconcile(3, 0, b"a");
            assert_eq!(recorded(), ["done 3 requeue None error None"]);
        });
    }

    #[test]
    fn a_dropped_controller_fails_its_reconciles() {
        on_runtime(async {
            drop(Dispatcher::register("{}", Letters));
            registry::on_reconcile(1, 0, b"a");
            let error = "the controller has ended: its stream was dropped";
            assert_eq!(recorded()[1..], [format!("done 1 requeue None error Some({error:?})")]);
        });
    }
}

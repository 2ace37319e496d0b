//! One reconcile as a state machine: read the object, do what the script says, be done.
//!
//! ```text
//! read ─┬─ gone ─► delete the child, if it has no owner ─────────────────────────► done
//!       ├─ goes ─► delete the child ─► remove the finalizer ─────────────────────► done
//!       └─ there ─► finalizer ─► sources ─► read child ─► write it ─► status ─► sleep ─► done, again later
//! ```

use std::sync::Arc;

use serde_json::{Value, json};
use wasmop_core::step::{Action, StepFault};

use super::program::{FINALIZER, child_body, number};
use super::{Finished, Guest, Step, Trap};
use crate::cluster::{Kind, split};

/// Memory in which a step fails for want of more: as much as `limits.memory`.
const NONSENSE: &str = "{\"name\":";

/// Work on one object.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub registration: usize,
    pub key: Arc<str>,
    /// The last change in the cluster when it began.
    moment: u64,
    stage: Stage,
    object: Seen,
    /// What the child is to hold.
    content: String,
    /// The child's resource version.
    child_version: String,
}

/// What it has read of its object.
#[derive(Clone, Debug, Default)]
struct Seen {
    value: u64,
    uid: String,
    version: String,
    finalizers: Vec<String>,
    status: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    /// The answers to these are awaited.
    Read,
    AddFinalizer,
    ReadSources,
    ReadChild,
    WriteChild,
    WriteStatus,
    DeleteChild {
        /// Then the finalizer goes.
        finalizes: bool,
    },
    RemoveFinalizer,
    Flood {
        left: u32,
    },
    Sleep {
        until: u64,
    },
    /// For ever.
    Hang,
}

/// Status and body; `None`: the call failed.
type Answer = Option<(u16, Vec<u8>)>;

/// What comes next.
enum Next {
    /// A request: method, path, body.
    Ask(Stage, &'static str, String, String),
    Go(Stage),
    Done,
    /// The object is gone: not again.
    Gone,
    Fail(String),
}

impl Job {
    pub fn new(registration: usize, key: Arc<str>, moment: u64) -> Job {
        let (object, content, child_version) = Default::default();
        Job { registration, key, moment, stage: Stage::Begin, object, content, child_version }
    }

    /// When it goes on by itself, on the instance's clock.
    pub fn wakes_at(&self) -> Option<u64> {
        match self.stage {
            Stage::Sleep { until } => Some(until),
            _ => None,
        }
    }
}

fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

impl Guest {
    /// Goes on with a task that has got an answer, or whose time has come.
    pub(super) fn advance(&mut self, task: u64, answer: Option<Answer>, step: &mut Step<'_>) -> Result<(), Trap> {
        let Some(job) = self.jobs.get(&task) else { return Ok(()) };
        let mistakes = self.registration(job.registration).script.mistakes.clone();
        if step.random.percent(mistakes.traps) {
            let entered = if mistakes.traps_silently { 0 } else { task };
            return Err(Trap { cause: StepFault::Panic, entered });
        }
        if step.random.percent(mistakes.nonsense) {
            let nonsense = match step.random.below(3) {
                0 => Action::Done { task: task + 1000, requeue_after: None, error: None },
                1 => Action::Register { spec: NONSENSE.into() },
                _ => Action::Mapped { task, keys: "a/b/c".into() },
            };
            step.out.output.actions.push(nonsense);
        }
        self.memory += mistakes.leak;
        if self.memory > self.program.limits.memory_bytes {
            return Err(Trap { cause: StepFault::MemoryLimit, entered: task });
        }
        let next = self.next(task, answer, step);
        let Some(job) = self.jobs.get_mut(&task) else { return Ok(()) };
        match next {
            Next::Ask(stage, method, path, body) => {
                job.stage = stage;
                self.call(step, task, method, path, body);
            }
            Next::Go(stage) => job.stage = stage,
            Next::Done => self.done(task, Ok(true), step),
            Next::Gone => self.done(task, Ok(false), step),
            Next::Fail(why) => self.done(task, Err(why), step),
        }
        Ok(())
    }

    /// `result`: whether the object is still there, or why it failed.
    fn done(&mut self, task: u64, result: Result<bool, String>, step: &mut Step<'_>) {
        let Some(job) = self.jobs.remove(&task) else { return };
        let requeue_after = self.registration(job.registration).script.requeue.filter(|_| result == Ok(true));
        let error = result.err();
        let Job { registration, key, moment, .. } = job;
        let is_ok = error.is_none();
        step.out.finished.push(Finished { registration, key, moment, is_ok, requeue: requeue_after });
        // A future that is dropped drops its calls.
        for (call, _) in self.calls.extract_if(.., |_, call| call.task == task) {
            step.out.output.actions.push(Action::DropCall { id: call });
        }
        step.out.output.actions.push(Action::Done { task, requeue_after, error });
    }

    fn next(&mut self, task: u64, answer: Option<Answer>, step: &mut Step<'_>) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let (stage, key) = (job.stage, job.key.clone());
        match (stage, answer) {
            (Stage::Begin, _) => self.begin_script(task, &key, step),
            (Stage::Sleep { .. }, None) => Next::Done,
            (Stage::Flood { left }, Some(_)) if left > 1 => Next::Go(Stage::Flood { left: left - 1 }),
            (Stage::Flood { .. }, Some(_)) => Next::Done,
            (_, None | Some(None)) => Next::Fail("no answer".into()),
            (stage, Some(Some((status, body)))) => self.on_answer(task, stage, status, &body, step),
        }
    }

    fn begin_script(&mut self, task: u64, key: &Arc<str>, step: &mut Step<'_>) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let registration = self.registration(job.registration);
        let (primary, script) = (registration.primary, registration.script.clone());
        let mistakes = &script.mistakes;
        if step.random.percent(mistakes.errors) {
            return Next::Fail("simulated".into());
        }
        if step.random.percent(mistakes.hangs) {
            return Next::Go(Stage::Hang);
        }
        if mistakes.streams {
            let path = format!("{}?watch=true&allowWatchBookmarks=true&timeoutSeconds=300", Kind::Website.path(None));
            self.call(step, 0, "GET", path, String::new());
        }
        if mistakes.flood > 0 {
            for n in 0..mistakes.flood {
                let path = format!("{}-{n}", Kind::ConfigMap.object_path("a/none"));
                self.call(step, task, "PATCH", path, " ".repeat(mistakes.flood_bytes));
            }
            return Next::Go(Stage::Flood { left: mistakes.flood });
        }
        let path = match mistakes.denied {
            true => Kind::Secret.object_path("a/none"),
            false => primary.object_path(key),
        };
        let query = if script.cached { "?resourceVersion=0" } else { "" };
        Next::Ask(Stage::Read, "GET", format!("{path}{query}"), String::new())
    }

    fn on_answer(&mut self, task: u64, stage: Stage, status: u16, body: &[u8], step: &mut Step<'_>) -> Next {
        let is_ok = (200..300).contains(&status);
        if status == 404 && parse(body)["kind"] != "Status" {
            return Next::Fail("the kind is not served".into());
        }
        match stage {
            Stage::Read if status == 404 => self.on_gone(task),
            Stage::ReadChild if status == 404 => self.write_child(task, false),
            Stage::DeleteChild { finalizes } if is_ok || status == 404 => match finalizes {
                true => self.remove_finalizer(task),
                false => Next::Gone,
            },
            _ if !is_ok => Next::Fail(format!("status {status}")),
            Stage::Read => self.on_read(task, &parse(body), step),
            Stage::AddFinalizer => {
                self.note_version(task, body);
                self.after_finalizer(task, step)
            }
            Stage::ReadSources => self.on_sources(task, &parse(body)),
            Stage::ReadChild => self.on_child(task, &parse(body), step),
            Stage::WriteChild => self.after_child(task, step),
            Stage::WriteStatus => self.rest(task, step),
            Stage::RemoveFinalizer => Next::Done,
            Stage::Begin | Stage::Flood { .. } | Stage::Sleep { .. } | Stage::Hang | Stage::DeleteChild { .. } => {
                Next::Fail("an answer to nothing".into())
            }
        }
    }

    fn note_version(&mut self, task: u64, body: &[u8]) {
        if let Some(job) = self.jobs.get_mut(&task) {
            job.object.version = parse(body)["metadata"]["resourceVersion"].as_str().unwrap_or_default().into();
        }
    }

    fn on_gone(&mut self, task: u64) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let registration = self.registration(job.registration);
        match registration.child_key(&job.key).filter(|_| !registration.script.owns) {
            Some(child) => {
                let stage = Stage::DeleteChild { finalizes: false };
                Next::Ask(stage, "DELETE", Kind::ConfigMap.object_path(&child), String::new())
            }
            None => Next::Gone,
        }
    }

    fn on_read(&mut self, task: u64, object: &Value, step: &Step<'_>) -> Next {
        let Some(job) = self.jobs.get_mut(&task) else { return Next::Done };
        let meta = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let finalizers = meta["finalizers"].as_array().into_iter().flatten();
        job.object = Seen {
            value: number(&object["spec"]["value"]) + number(&object["data"]["value"]),
            uid: text(&meta["uid"]),
            version: text(&meta["resourceVersion"]),
            finalizers: finalizers.map(text).collect(),
            status: object["status"]["seen"].as_u64(),
        };
        let has_finalizer = job.object.finalizers.iter().any(|name| name == FINALIZER);
        let (registration, key) = (job.registration, job.key.clone());
        let registration = self.registration(registration);
        if !meta["deletionTimestamp"].is_null() {
            return match registration.child_key(&key) {
                Some(child) if has_finalizer => {
                    let stage = Stage::DeleteChild { finalizes: true };
                    Next::Ask(stage, "DELETE", Kind::ConfigMap.object_path(&child), String::new())
                }
                _ => Next::Done,
            };
        }
        if registration.script.finalizer && !has_finalizer {
            return self.patch_finalizers(task, Stage::AddFinalizer, true);
        }
        self.after_finalizer(task, step)
    }

    fn patch_finalizers(&mut self, task: u64, stage: Stage, adds: bool) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let others = job.object.finalizers.iter().filter(|name| *name != FINALIZER).cloned();
        let finalizers: Vec<String> = others.chain(adds.then(|| FINALIZER.to_owned())).collect();
        let patch = json!({"metadata": {"resourceVersion": job.object.version, "finalizers": finalizers}});
        let path = self.registration(job.registration).primary.object_path(&job.key);
        Next::Ask(stage, "PATCH", path, patch.to_string())
    }

    fn remove_finalizer(&mut self, task: u64) -> Next {
        self.patch_finalizers(task, Stage::RemoveFinalizer, false)
    }

    fn after_finalizer(&mut self, task: u64, step: &Step<'_>) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let registration = self.registration(job.registration);
        if registration.script.child.is_none() {
            return self.after_child(task, step);
        }
        if registration.script.sources {
            let cached = if registration.script.cached { "&resourceVersion=0" } else { "" };
            let path = format!("{}{cached}", registration.sources_of(&job.key));
            return Next::Ask(Stage::ReadSources, "GET", path, String::new());
        }
        self.read_child(task, 0)
    }

    fn on_sources(&mut self, task: u64, list: &Value) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let key = job.key.clone();
        let items = list["items"].as_array().into_iter().flatten();
        let is_named = |item: &&Value| {
            let source = crate::cluster::join(item["metadata"]["namespace"].as_str(), "x");
            super::program::targets(&item["data"]["targets"], &source).iter().any(|target| **target == *key)
        };
        let sum = items.filter(is_named).map(|item| number(&item["data"]["value"])).sum();
        self.read_child(task, sum)
    }

    fn read_child(&mut self, task: u64, sum: u64) -> Next {
        let Some(job) = self.jobs.get_mut(&task) else { return Next::Done };
        job.content = format!("{}+{sum}", job.object.value);
        let (registration, key) = (job.registration, job.key.clone());
        let child = self.registration(registration).child_key(&key).unwrap_or_default();
        Next::Ask(Stage::ReadChild, "GET", Kind::ConfigMap.object_path(&child), String::new())
    }

    fn on_child(&mut self, task: u64, child: &Value, step: &Step<'_>) -> Next {
        let Some(job) = self.jobs.get_mut(&task) else { return Next::Done };
        job.child_version = child["metadata"]["resourceVersion"].as_str().unwrap_or_default().into();
        let owner = child["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default();
        let (content, uid) = (job.content.clone(), job.object.uid.clone());
        let owns = self.jobs.get(&task).is_some_and(|job| self.registration(job.registration).script.owns);
        if child["data"]["content"] == content.as_str() && (!owns || owner == uid) {
            return self.after_child(task, step);
        }
        self.write_child(task, true)
    }

    fn write_child(&mut self, task: u64, exists: bool) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let registration = self.registration(job.registration);
        let Some(child) = registration.child_key(&job.key) else { return Next::Done };
        let owner = registration.script.owns.then(|| (registration.primary, split(&job.key).1, &*job.object.uid));
        let version = exists.then_some(&*job.child_version);
        let body = child_body(&child, &job.content, version, owner);
        match exists {
            true => Next::Ask(Stage::WriteChild, "PUT", Kind::ConfigMap.object_path(&child), body),
            false => Next::Ask(Stage::WriteChild, "POST", Kind::ConfigMap.path(split(&child).0), body),
        }
    }

    fn after_child(&mut self, task: u64, step: &Step<'_>) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        let registration = self.registration(job.registration);
        if !registration.script.status || job.object.status == Some(job.object.value) {
            return self.rest(task, step);
        }
        let meta = json!({"resourceVersion": job.object.version});
        let patch = json!({"metadata": meta, "status": {"seen": job.object.value}});
        let path = format!("{}/status", registration.primary.object_path(&job.key));
        Next::Ask(Stage::WriteStatus, "PATCH", path, patch.to_string())
    }

    /// What comes after everything is written.
    fn rest(&mut self, task: u64, step: &Step<'_>) -> Next {
        let Some(job) = self.jobs.get(&task) else { return Next::Done };
        match self.registration(job.registration).script.sleep {
            Some(sleep) => Next::Go(Stage::Sleep { until: step.input.monotonic_ns + sleep.as_nanos() as u64 }),
            None => Next::Done,
        }
    }
}

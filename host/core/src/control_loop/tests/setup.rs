//! Controllers to add, what their guests register and do, and how long a second is.

use std::time::Duration;

use bytes::Bytes;
use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits, Mode, PolicyRule, Relation, WatchSpec};
use wasmop_policy::Policy;

use super::super::{InstanceFacts, Leadership, NamespaceLimit, Recovered};
use crate::registration_id::RegistrationId;
use crate::reply::Reply;
use crate::startup::Startup;
use crate::step::{Action, Call, Failure, LogLine, Lost, StepFault};

pub const MIB: u64 = 1 << 20;
pub const R0: RegistrationId = RegistrationId(0);

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A kind that tests watch.
pub fn kind(kind: &str) -> WatchSpec {
    let (group, plural) = match kind {
        "Website" => ("demo.dev", "websites"),
        "Deployment" => ("apps", "deployments"),
        "ConfigMap" => ("", "configmaps"),
        "Node" => ("", "nodes"),
        _ => panic!("no such kind: {kind}"),
    };
    WatchSpec {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespace: None,
        namespaces: Vec::new(),
        relation: Relation::Own,
        label_selector: String::new(),
        field_selector: String::new(),
        generation_changed: false,
        predicate: String::new(),
        cached: false,
        ignore_own_writes: false,
    }
}

/// A kind whose changes concern other objects.
pub fn related(of: &str, relation: Relation) -> WatchSpec {
    WatchSpec { relation, ..kind(of) }
}

/// What a guest registers.
pub fn reconciler(primary: WatchSpec, watches: Vec<WatchSpec>) -> ControllerSpec {
    ControllerSpec {
        name: primary.plural.clone(),
        namespace: None,
        namespaces: Vec::new(),
        max_concurrent_reconciles: 0,
        only_existing: false,
        debounce_ms: 0,
        primary,
        watches,
    }
}

pub fn websites() -> ControllerSpec {
    reconciler(kind("Website"), Vec::new())
}

pub fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: vec![group.into()],
        resources: vec![resource.into()],
        verbs: verbs.iter().map(|verb| (*verb).into()).collect(),
        ..PolicyRule::default()
    }
}

/// A controller to add.
pub struct Setup {
    pub name: &'static str,
    pub tier: Tier,
    pub mode: Mode,
    pub has_kept_up_watches: bool,
    pub limits: Limits,
    /// The package's own policy.
    pub package_policy: Option<Policy>,
    /// The owner's.
    pub policy: Option<Policy>,
    pub rules: Vec<PolicyRule>,
    pub external: Vec<&'static str>,
    pub namespaces: NamespaceLimit,
    pub leadership: Leadership,
    pub recovered: Option<Recovered>,
    pub startup: Startup,
    pub base_memory_bytes: u64,
    pub base_data_bytes: u64,
}

/// A controller that may do everything and has no limits.
pub fn setup(name: &'static str) -> Setup {
    Setup {
        name,
        tier: Tier::Full,
        mode: Mode::HostDriven,
        has_kept_up_watches: false,
        limits: Limits::NONE,
        package_policy: None,
        policy: None,
        rules: vec![rule("*", "*", &["*"])],
        external: Vec::new(),
        namespaces: NamespaceLimit::default(),
        leadership: Leadership::Alone,
        recovered: None,
        startup: Startup::default(),
        base_memory_bytes: MIB,
        base_data_bytes: 64 << 10,
    }
}

/// What a worker reports of a step.
#[derive(Default)]
pub struct Did {
    pub actions: Vec<Action>,
    pub logs: Vec<LogLine>,
    pub park: Option<Duration>,
    pub refused_memory: bool,
    pub failures: Vec<Failure>,
    pub lost: Option<Lost>,
    pub cpu: Duration,
    /// The instance as it is after the step; `None`: as the slot's instances usually are.
    pub instance: Option<InstanceFacts>,
}

impl From<Vec<Action>> for Did {
    fn from(actions: Vec<Action>) -> Did {
        Did { actions, ..Did::default() }
    }
}

pub fn register(spec: &ControllerSpec) -> Action {
    Action::Register { spec: serde_json::to_string(spec).unwrap() }
}

pub fn done(task: u64) -> Action {
    Action::Done { task, requeue_after: None, error: None }
}

pub fn requeue(task: u64, after: Duration) -> Action {
    Action::Done { task, requeue_after: Some(after), error: None }
}

pub fn fails(task: u64) -> Action {
    Action::Done { task, requeue_after: None, error: Some("no luck".into()) }
}

pub fn call(id: u64, task: u64, method: &str, path: &str) -> Action {
    let (target, headers) = (String::new(), String::new());
    Action::Call(Call { id, task, target, method: method.into(), path: path.into(), headers, body: Bytes::new() })
}

/// A call that sends something.
pub fn put(id: u64, task: u64, path: &str, body: &str) -> Action {
    let (target, headers) = (String::new(), String::new());
    let body = Bytes::copy_from_slice(body.as_bytes());
    Action::Call(Call { id, task, target, method: "PUT".into(), path: path.into(), headers, body })
}

/// A call to a host other than the API server.
pub fn contact(id: u64, target: &str) -> Action {
    let (target, path, headers) = (target.into(), "/".into(), String::new());
    Action::Call(Call { id, task: 0, target, method: "GET".into(), path, headers, body: Bytes::new() })
}

pub fn drop_call(id: u64) -> Action {
    Action::DropCall { id }
}

pub fn get(id: u64, path: &str) -> Action {
    call(id, 0, "GET", path)
}

/// A step that failed and was undone.
pub fn failure(cause: StepFault, culprit: Option<u64>) -> Failure {
    Failure {
        cause,
        reason: "it went wrong".into(),
        detail: "backtrace".into(),
        logs: Vec::new(),
        culprit,
        replayed_steps: 1,
        memory_before: 0,
    }
}

pub fn log(message: &str) -> LogLine {
    LogLine { level: tracing::Level::INFO, target: "app".into(), message: message.into(), fields: String::new() }
}

pub fn head(status: u16) -> Reply {
    Reply::Head { status, headers: String::new() }
}

pub fn body(text: &str) -> Reply {
    Reply::Body(Bytes::copy_from_slice(text.as_bytes()))
}

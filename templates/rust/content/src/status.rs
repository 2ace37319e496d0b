//! The status of a Website.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use crate::children;
use crate::website::{Website, WebsiteStatus};

/// Returns the status for the state of the Deployment. `now` is the transition time of conditions that change.
pub fn observe(website: &Website, deployment: &Deployment, reconciles: u64, now: Time) -> WebsiteStatus {
    let generation = website.metadata.generation.unwrap_or_default();
    let before = website.status.as_ref().map_or(&[][..], |status| &status.conditions);
    WebsiteStatus {
        url: format!("http://{}.{}.svc", children::name(website), website.namespace().unwrap_or_default()),
        reconciles,
        observed_generation: generation,
        conditions: vec![ready(website, deployment, generation, before, now)],
    }
}

fn ready(website: &Website, deployment: &Deployment, generation: i64, before: &[Condition], now: Time) -> Condition {
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    let wanted = website.spec.replicas;
    let (status, reason) =
        if available >= wanted { ("True", "DeploymentAvailable") } else { ("False", "DeploymentNotAvailable") };
    // The transition time changes only with the status.
    let since = before
        .iter()
        .find(|condition| condition.type_ == "Ready" && condition.status == status)
        .map(|condition| condition.last_transition_time.clone());
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: format!("{available} of {wanted} replicas are available"),
        last_transition_time: since.unwrap_or(now),
        observed_generation: Some(generation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::website::WebsiteSpec;
    use k8s_openapi::api::apps::v1::DeploymentStatus;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("a time"))
    }

    fn with_available(replicas: i32) -> Deployment {
        let status = DeploymentStatus { available_replicas: Some(replicas), ..DeploymentStatus::default() };
        Deployment { status: Some(status), ..Deployment::default() }
    }

    #[test]
    fn the_transition_time_of_a_condition_changes_only_with_its_status() {
        let spec = WebsiteSpec { content: String::new(), replicas: 2, image: String::new() };
        let mut website = Website::new("hello", spec);
        for (available, now, status, since) in
            [(0, 10, "False", 10), (1, 20, "False", 10), (2, 30, "True", 30), (3, 40, "True", 30), (0, 50, "False", 50)]
        {
            let observed = observe(&website, &with_available(available), 1, at(now));
            assert_eq!(observed.conditions[0].status, status);
            assert_eq!(observed.conditions[0].last_transition_time, at(since));
            website.status = Some(observed);
        }
    }
}

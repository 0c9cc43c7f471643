//! What the times of deployment in a list prove, where the deployment status cannot be read.
//!
//! The service's times are compared with each other and never with ours: the two clocks may be hours apart.

use crate::{
    chatcaptain::{Inventory, Version},
    crd::{ChatbotDeployment, DeployedVersion},
};

/// Whether it is proven that no environment runs `version`: it was never deployed, or every environment runs another one
/// that was deployed there later. `deployments` are those that manage the environments of the chatbot, one for each;
/// `None`: nothing is known of one.
pub fn is_replaced_everywhere(
    inventory: &Inventory,
    version: &Version,
    deployments: &[Option<&ChatbotDeployment>],
) -> bool {
    let Some(deployed) = version.deployed else {
        // a list without any time of deployment does not say that this one was never deployed
        return inventory.has_deploy_times();
    };
    deployments.iter().all(|deployment| {
        let Some((deployment, active)) = deployment.and_then(|d| Some((d, active(d)?))) else {
            return false;
        };
        let replaced_at = inventory.version(&active.version_id).and_then(|version| version.deployed);
        let elsewhere = deployments
            .iter()
            .flatten()
            .filter(|other| other.spec.environment != deployment.spec.environment);
        active.version_id != version.id.as_str()
            && replaced_at.is_some_and(|at| at > deployed)
            // then that time is of a deploy to the other environment
            && !elsewhere.into_iter().any(|other| ran_since(other, active))
    })
}

fn active(deployment: &ChatbotDeployment) -> Option<&DeployedVersion> {
    deployment.status.as_ref()?.active.as_ref()
}

/// Whether a deployment has begun to run the same version after, or when, `active` began. Both times are ours.
fn ran_since(deployment: &ChatbotDeployment, active: &DeployedVersion) -> bool {
    let status = deployment.status.iter();
    let began = status.flat_map(|status| {
        let now = status.active.iter().map(|other| (&other.version_id, &other.start_time));
        now.chain(status.history.iter().map(|entry| (&entry.version_id, &entry.start_time)))
    });
    began.into_iter().any(|(id, start)| *id == active.version_id && start.0 >= active.start_time.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Instant;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::chatcaptain::VersionId;

    /// A version that was deployed in this second by the service's clock, which is years behind.
    fn deployed(id: &str, second: Option<i64>) -> Version {
        Version {
            id: VersionId::parse(id).unwrap(),
            name: None,
            description: None,
            number: None,
            created: None,
            deployed: second.map(|second| Timestamp::from_second(second).unwrap()),
            contents: None,
        }
    }

    fn running(environment: &str, id: &str, start: &str, more: &Value) -> ChatbotDeployment {
        let mut status =
            json!({"active": {"versionId": id, "startTime": format!("2026-01-01T00:{start}:00Z")}});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "chatcaptain.dev/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": environment},
            "spec": {"chatbotId": "bot", "environment": environment, "versionId": id}, "status": status,
        }))
        .unwrap()
    }

    fn is_replaced(second: Option<i64>, test: &ChatbotDeployment, prod: Option<&ChatbotDeployment>) -> bool {
        let (old, b, c) = (deployed("old", second), deployed("b", Some(50)), deployed("c", Some(60)));
        let inventory = Inventory::new(vec![old.clone(), b, c], Instant::now());
        is_replaced_everywhere(&inventory, &old, &[Some(test), prod])
    }

    #[test]
    fn version_is_replaced_where_each_environment_runs_one_that_was_deployed_later() {
        let [test, prod] = [running("test", "c", "20", &json!({})), running("prod", "b", "10", &json!({}))];
        assert!(is_replaced(Some(40), &test, Some(&prod)));
        assert!(!is_replaced(Some(50), &test, Some(&prod)), "it may have been deployed to prod since");
        assert!(!is_replaced(Some(55), &test, Some(&prod)));
        assert!(!is_replaced(Some(40), &test, None), "nothing is known of prod");
        assert!(!is_replaced(Some(40), &running("test", "old", "20", &json!({})), Some(&prod)));
        assert!(!is_replaced(Some(40), &running("test", "gone", "20", &json!({})), Some(&prod)));
        assert!(is_replaced(None, &test, None), "it was never deployed");
        let timeless = Inventory::new(vec![deployed("old", None)], Instant::now());
        assert!(!is_replaced_everywhere(&timeless, &deployed("old", None), &[]));
    }

    #[test]
    fn time_of_a_later_deploy_to_another_environment_proves_nothing() {
        // b went to test, and later to prod: in between the old version may have been deployed to test
        let test = running("test", "b", "10", &json!({}));
        assert!(!is_replaced(Some(40), &test, Some(&running("prod", "b", "20", &json!({})))));
        let moved_on = json!({"history": [{"versionId": "b", "startTime": "2026-01-01T00:20:00Z"}]});
        assert!(!is_replaced(Some(40), &test, Some(&running("prod", "c", "30", &moved_on))));
        let earlier = json!({"history": [{"versionId": "b", "startTime": "2026-01-01T00:05:00Z"}]});
        assert!(is_replaced(Some(40), &test, Some(&running("prod", "c", "30", &earlier))));
    }
}

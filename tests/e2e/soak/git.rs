//! The manifests in git, and a sync tool that applies them again and again.

use std::{collections::BTreeMap, fmt::Debug};

use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use simulator::Environment;
use support::{Object, World};

/// A version in git's history.
#[derive(Clone, Debug)]
pub struct Version {
    pub bot: String,
    pub secret: String,
    /// It is in git now.
    pub present: bool,
    /// An edit that changes nothing in the service.
    pub interval: u32,
    /// How often its object was created.
    pub creations: usize,
    /// How often it has left git.
    pub prunes: usize,
}

/// A deployment in git.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub bot: String,
    pub secret: String,
    pub environment: &'static str,
    /// The version that it wants.
    pub version: String,
    /// It is in git now.
    pub present: bool,
    /// `spec.revisionHistoryLimit`, where it is set.
    pub history_limit: Option<usize>,
    /// The deployment of test that `spec.promoteAfter` names.
    pub gate: Option<String>,
    /// `spec.progressDeadline`.
    pub progress_deadline: &'static str,
}

/// All of it, by name.
#[derive(Clone, Debug, Default)]
pub struct Git {
    pub versions: BTreeMap<String, Version>,
    pub deployments: BTreeMap<String, Deployment>,
}

impl Git {
    /// Applies and prunes once; objects that are being deleted are left to the next sync.
    pub fn sync(&mut self, world: &World) -> kube::Result<()> {
        let versions = self.versions.iter_mut();
        let versions =
            versions.map(|(name, v)| (name.clone(), v.present.then(|| v.spec()), &mut v.creations));
        sync_kind::<ChatbotVersion>(world, versions.collect())?;
        let mut births = vec![0; self.deployments.len()];
        let deployments = self.deployments.iter().zip(&mut births);
        let deployments = deployments.map(|((name, d), n)| (name.clone(), d.present.then(|| d.spec()), n));
        sync_kind::<ChatbotDeployment>(world, deployments.collect())
    }

    /// Sets `spec.progressDeadline` of every deployment.
    pub fn set_progress_deadline(&mut self, deadline: &'static str) {
        for deployment in self.deployments.values_mut() {
            deployment.progress_deadline = deadline;
        }
    }

    /// Versions that no deployment wants, but for the first of each bot, which stays.
    pub fn free(&self) -> Vec<String> {
        let wanted = |name: &String| self.deployments.values().any(|d| d.version == *name);
        let free = self.versions.keys().filter(|name| !name.ends_with("-0") && !wanted(name));
        free.cloned().collect()
    }
}

impl Version {
    /// It leaves git.
    pub fn prune(&mut self) {
        self.prunes += usize::from(self.present);
        self.present = false;
    }

    fn spec(&self) -> Value {
        json!({
            "chatbotId": self.bot, "interval": format!("{}s", self.interval),
            "credentialsRef": {"name": self.secret},
        })
    }
}

impl Deployment {
    /// The environment, as the service has it.
    pub fn environment(&self) -> Environment {
        if self.environment == "test" { Environment::Test } else { Environment::Prod }
    }

    /// How many versions that ran here outlive their objects.
    pub fn kept(&self) -> usize {
        self.history_limit.unwrap_or(3)
    }

    fn spec(&self) -> Value {
        let gate = self.gate.as_ref().map(|test| json!({"deploymentRef": {"name": test}, "soak": "1s"}));
        let mut spec = json!({
            "chatbotId": self.bot, "environment": self.environment, "versionRef": {"name": self.version},
            "progressDeadline": self.progress_deadline, "credentialsRef": {"name": self.secret},
        });
        let optional =
            [("revisionHistoryLimit", self.history_limit.map(Value::from)), ("promoteAfter", gate)];
        for (field, value) in optional {
            if let Some(value) = value {
                spec[field] = value;
            }
        }
        spec
    }
}

/// Syncs one kind: name, the spec if it is in git, and the count of its creations.
fn sync_kind<K: Object>(world: &World, wanted: Vec<(String, Option<Value>, &mut usize)>) -> kube::Result<()> {
    let api: Api<K> = Api::namespaced(world.cluster.client(), &world.namespace);
    world.cluster.runtime().block_on(async {
        let found = api.list(&ListParams::default()).await?.items;
        for (name, spec, creations) in wanted {
            let now = found.iter().find(|object| object.name_any() == name);
            match (spec, now) {
                (_, Some(now)) if now.meta().deletion_timestamp.is_some() => {}
                (None, Some(_)) => drop(api.delete(&name, &DeleteParams::background()).await?),
                (Some(spec), now) => {
                    let object = json!({
                        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name},
                        "spec": spec,
                    });
                    *creations += usize::from(now.is_none());
                    api.patch(&name, &PatchParams::apply("git").force(), &Patch::Apply(&object)).await?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    })
}

//! The shipped rules suffice for the main job in one namespace, grant nothing elsewhere, and each single one is needed.

use std::{collections::BTreeSet, fs, sync::Arc};

use super::clone;
use chatcaptain_operator::crd::{ChatbotDeployment, ChatbotVersion};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use simulator::{Fault, FaultKind, FaultOperation, Operation, Settings};
use support::{Cluster, Object, TIMEOUT, World, generated::root, is_ready, poll, run_concurrently};

/// The API server records the reads of accounts in this namespace, too.
const NAMESPACE: &str = "audited";

/// Resource and verb.
type Permission = (String, String);

/// The permissions as they are shipped without one, for an account of this name.
struct Case {
    account: String,
    without: Option<Permission>,
    watch_secrets: bool,
}

/// The roles and bindings of `deploy/namespaced`, for another account, Lease and namespace.
fn roles(account: &str, namespace: &str) -> Vec<Value> {
    let ours = |object: &Value| {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        matches!(kind, "Role" | "RoleBinding") || name == "chatcaptain-operator-crds"
    };
    let shipped = Cluster::kustomize("deploy/namespaced");
    let shipped = shipped.iter().map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let mut roles: Vec<Value> = shipped.filter(ours).collect();
    assert_eq!(roles.len(), 6);
    for role in &mut roles {
        let of = role["metadata"]["namespace"].as_str().map(str::to_owned);
        if let Some(of) = of {
            role["metadata"]["namespace"] = json!(if of == "chatbots" { namespace } else { NAMESPACE });
        }
        role["metadata"]["name"] = json!(account);
        if role["roleRef"].is_object() {
            role["roleRef"]["name"] = json!(account);
            role["subjects"] = json!([{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]);
        }
        for rule in role["rules"].as_array_mut().into_iter().flatten() {
            if rule["resources"] == json!(["leases"]) && rule["resourceNames"].is_array() {
                rule["resourceNames"] = json!([account]);
            }
        }
    }
    roles
}

/// One rule for each permission of the roles, except `without`.
fn without(roles: &mut [Value], without: Option<&Permission>) {
    for role in roles.iter_mut().filter(|role| role["rules"].is_array()) {
        let mut single = Vec::new();
        for rule in role["rules"].as_array().unwrap() {
            for (resource, verb) in permissions(rule) {
                if without != Some(&(resource.clone(), verb.clone())) {
                    let mut only = rule.clone();
                    only["resources"] = json!([resource]);
                    only["verbs"] = json!([verb]);
                    single.push(only);
                }
            }
        }
        role["rules"] = json!(single);
    }
}

fn permissions(rule: &Value) -> Vec<Permission> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let verbs = texts(&rule["verbs"]);
    let resources = texts(&rule["resources"]).into_iter();
    resources.flat_map(|resource| verbs.iter().map(move |verb| (resource.clone(), verb.clone()))).collect()
}

fn all_permissions() -> BTreeSet<Permission> {
    let all = roles("any", "any");
    let rules = all.iter().filter_map(|role| role["rules"].as_array()).flatten();
    rules.flat_map(permissions).collect()
}

impl Case {
    fn world(&self, cluster: &Arc<Cluster>) -> World {
        let account = self.account.as_str();
        cluster.kubectl_ok(&["create", "serviceaccount", account, "--namespace", NAMESPACE], "");
        let kubeconfig = cluster.control_plane().kubeconfig_for(NAMESPACE, account).unwrap();
        // an object is changed during its first call: the outcome is recorded on a newer copy
        let hang = |operation| Fault { hang_ms: 4_000, ..Fault::new(operation, FaultKind::Hang).times(1) };
        let faults = [FaultOperation::Create, FaultOperation::Deploy].map(hang).to_vec();
        let watch_secrets = self.watch_secrets.to_string();
        let flags = [
            ("leader-elect", "true"),
            ("lease-namespace", NAMESPACE),
            ("lease-name", account),
            ("watch-secrets", &watch_secrets),
        ];
        let settings = Settings { faults, ..Settings::default() };
        let world = World::on_cluster(cluster.clone(), kubeconfig, settings, &flags);
        let mut roles = roles(account, &world.namespace);
        without(&mut roles, self.without.as_ref());
        let list = json!({"apiVersion": "v1", "kind": "List", "items": roles});
        world.cluster.kubectl_ok(&["apply", "-f", "-"], &list.to_string());
        world
    }

    /// What the operator asked the API server for, and the codes of the answers.
    fn requests(&self, world: &World) -> BTreeSet<(Permission, u16)> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{}", self.account);
        let requests = world.cluster.control_plane().audit().unwrap();
        let ours = requests.into_iter().filter(|request| request.user == user);
        ours.map(|request| {
            let subresource = request.subresource;
            let resource = if subresource.is_empty() {
                request.resource
            } else {
                format!("{}/{subresource}", request.resource)
            };
            ((resource, request.verb), request.code)
        })
        .collect()
    }

    fn is_denied(&self, world: &World) -> bool {
        let requests = self.requests(world);
        self.without.as_ref().is_some_and(|without| requests.contains(&(without.clone(), 403)))
    }
}

/// A change that has nothing to do with the operator, sooner than a process of kubectl could make it.
fn edit<K: Object>(world: &World, name: &str) {
    let api: Api<K> = Api::namespaced(world.cluster.client(), &world.namespace);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"team": "chatbots"}}}));
    let params = PatchParams::default();
    let patched = api.patch(name, &params, &patch);
    world.cluster.runtime().block_on(patched).expect("the object");
}

/// A version is created, deployed and followed by another one; one version is deleted and another handed over. `None` if it ended early because the
/// permission was missed.
fn main_job(case: &Case, world: &World) -> Option<()> {
    let step = |what: &str, done: &dyn Fn() -> bool| {
        let mut polls = 0;
        let outcome = poll(TIMEOUT, || {
            polls += 1;
            if done() {
                return Some(Some(()));
            }
            // the log grows: not at each poll
            (polls % 10 == 0 && case.is_denied(world)).then_some(None)
        });
        outcome.unwrap_or_else(|| panic!("{case:?}: {what}:\n{}", world.log()))
    };
    let took_effect = |operation| world.service.counters().of(operation).took_effect > 0;
    world.start();
    world.apply_version("a", &[]);
    step("create", &|| took_effect(Operation::Create))?;
    edit::<ChatbotVersion>(world, "a");
    step("a is Ready", &|| is_ready(&world.version("a")))?;
    world.apply_deployment("test", "a", &[]);
    step("deploy", &|| took_effect(Operation::Deploy))?;
    edit::<ChatbotDeployment>(world, "test");
    step("test is Ready", &|| is_ready(&world.deployment("test")))?;
    // back and forth: the second event about a says the same as the first
    world.apply_version("b", &[]);
    for version in ["b", "a", "b", "a"] {
        world.apply_deployment("test", version, &[]);
        step("test is Ready again", &|| is_ready(&world.deployment("test")))?;
    }
    let repeats = |event: &Event| event.series.is_some();
    step("an event repeats", &|| world.cluster.list::<Event>(&world.namespace).iter().any(repeats))?;
    // its policy is that of the namespace
    world.apply_version("c", &[]);
    step("c is Ready", &|| is_ready(&world.version("c")))?;
    world.delete("cbv", "c");
    step("c is deleted", &|| world.get::<ChatbotVersion>("c").is_none())?;
    // the deployment may have to go back to it, and takes its deletion over
    world.delete("cbv", "b");
    step("b is handed over", &|| world.get::<ChatbotVersion>("b").is_none())
}

#[test]
fn every_shipped_permission_suffices_and_each_is_needed() {
    // of its own: its audit log is read often
    let cluster = Cluster::installed();
    cluster.create_namespace(NAMESPACE);
    let all = all_permissions();
    assert!(all.len() >= 20, "{all:?}");
    let case =
        |account: &str, without, watch_secrets| Case { account: account.to_owned(), without, watch_secrets };
    let mut cases: Vec<Case> = all
        .iter()
        .map(|(resource, verb)| {
            let account = format!("without-{}-{verb}", resource.replace('/', "-"));
            case(&account, Some((resource.clone(), verb.clone())), true)
        })
        .collect();
    cases.push(case("complete", None, true));
    for verb in ["list", "watch"] {
        cases.push(case(&format!("unwatched-{verb}"), Some(("secrets".to_owned(), verb.to_owned())), false));
    }
    run_concurrently(8, &cases, |case| {
        let world = case.world(&cluster);
        let completed = main_job(case, &world).is_some();
        // a watch is in the audit log once it has ended
        world.kill();
        let is_needed = case.without.is_some() && case.watch_secrets;
        if is_needed {
            world.eventually("the permission is missed", || case.is_denied(&world).then_some(()));
        } else {
            assert!(completed, "{case:?}");
            assert_uses(case, &world, &all);
        }
    });
}

/// It asked for what it may do, for all of that, and for nothing else.
fn assert_uses(case: &Case, world: &World, all: &BTreeSet<Permission>) {
    let watches_secrets = |(resource, verb): &Permission| resource == "secrets" && verb != "get";
    let expected: BTreeSet<_> =
        all.iter().filter(|permission| case.watch_secrets || !watches_secrets(permission)).cloned().collect();
    world.eventually("the audit log has all requests", || {
        let requests = case.requests(world);
        let denied: Vec<_> = requests.iter().filter(|(_, code)| *code == 403).collect();
        assert!(denied.is_empty(), "{case:?}: {denied:?}");
        let used: BTreeSet<_> = requests.into_iter().map(|(permission, _)| permission).collect();
        assert!(used.is_subset(&expected), "{case:?}: {:?}", used.difference(&expected));
        (used == expected).then_some(())
    });
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secrets = if self.watch_secrets { "" } else { " and with --watch-secrets=false" };
        write!(f, "without {:?}{secrets}", self.without)
    }
}

#[test]
fn component_leaves_nothing_but_get_on_secrets() {
    for installation in ["deploy", "deploy/namespaced"] {
        let folder = clone();
        let ours = folder.path().join("my-installation");
        fs::create_dir(&ours).unwrap();
        let text = json!({
            "resources": [format!("../{installation}")], "components": ["../deploy/get-secrets-only"],
        });
        fs::write(ours.join("kustomization.yaml"), text.to_string()).unwrap();
        let rendered = Cluster::kustomize(ours.to_str().unwrap());
        let objects: Vec<Value> = rendered.iter().map(|text| serde_saphyr::from_str(text).unwrap()).collect();
        let rules = objects.iter().filter_map(|object| object["rules"].as_array()).flatten();
        let granted: Vec<Permission> =
            rules.flat_map(permissions).filter(|(resource, _)| resource == "secrets").collect();
        assert_eq!(granted, [("secrets".to_owned(), "get".to_owned())], "{installation}");
        let operator = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let args = operator["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        assert!(args.contains(&json!("--watch-secrets=false")), "{args:?}");
    }
}

#[test]
fn role_of_one_namespace_grants_nothing_in_others() {
    let cluster = Cluster::installed();
    cluster.kubectl_ok(&["delete", "-k", &root().join("deploy/role").display().to_string()], "");
    cluster.create_namespace("chatbots");
    let rendered = Cluster::kustomize("deploy/namespaced").join("\n---\n");
    cluster.kubectl_ok(&["apply", "-f", "-"], &rendered);
    let user = "--as=system:serviceaccount:chatcaptain-system:chatcaptain-operator";
    for (namespace, allowed) in [("chatbots", true), ("default", false), ("chatcaptain-system", false)] {
        for resource in ["secrets", "chatbotversions.chatcaptain.dev", "events.events.k8s.io"] {
            let verb = if resource.starts_with("events") { "create" } else { "get" };
            let answer =
                cluster.kubectl(&["auth", "can-i", verb, resource, "--namespace", namespace, user], "");
            assert_eq!(answer.status.success(), allowed, "{verb} {resource} in {namespace}");
        }
    }
}

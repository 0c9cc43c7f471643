package main

import (
	"context"
	"fmt"
	"sort"

	enginehealth "github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/argoproj/argo-cd/v3/common"
	applicationpkg "github.com/argoproj/argo-cd/v3/pkg/apiclient/application"
	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	argodiff "github.com/argoproj/argo-cd/v3/util/argo/diff"
	"github.com/argoproj/argo-cd/v3/util/argo/normalizers"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

// What Argo CD's health means to a sync: a wave goes on, waits, or ends the sync as failed.
var healths = map[enginehealth.HealthStatusCode]string{
	enginehealth.HealthStatusHealthy:     done,
	enginehealth.HealthStatusProgressing: goingOn,
	enginehealth.HealthStatusSuspended:   goingOn,
	enginehealth.HealthStatusDegraded:    failed,
}

// overrides as Argo CD reads them from its ConfigMap.
func overrides(asked *request) (map[string]v1alpha1.ResourceOverride, error) {
	config := asked.ArgoCD.DeepCopy()
	config.Name, config.Namespace = common.ArgoCDConfigMapName, "argocd"
	config.Labels = map[string]string{"app.kubernetes.io/part-of": "argocd"}
	clients := fake.NewClientset([]runtime.Object{config}...)
	return settings.NewSettingsManager(context.Background(), clients, config.Namespace).GetResourceOverrides()
}

func health(asked *request) (any, error) {
	return healthOf(asked)
}

func healthOf(asked *request) ([]verdict, error) {
	known, err := overrides(asked)
	if err != nil {
		return nil, err
	}
	said := make([]verdict, len(asked.Objects))
	for i, object := range asked.Objects {
		found, err := enginehealth.GetResourceHealth(object, lua.ResourceHealthOverrides(known))
		if err != nil {
			return nil, err
		}
		if found == nil {
			return nil, fmt.Errorf("object %d: Argo CD has no health script for %s", i, object.GetKind())
		}
		said[i] = verdict{string(found.Status), healths[found.Status]}
	}
	return said, nil
}

// actions that can be chosen, and those that are shown but cannot, of each object.
func actions(asked *request) (any, error) {
	known, err := overrides(asked)
	if err != nil {
		return nil, err
	}
	offered := make([]map[string]bool, len(asked.Objects))
	for i, object := range asked.Objects {
		vm := lua.VM{ResourceOverrides: known}
		scripts, err := vm.GetResourceActionDiscovery(object)
		if err != nil {
			return nil, err
		}
		found, err := vm.ExecuteResourceActionDiscovery(object, scripts)
		if err != nil {
			return nil, err
		}
		offered[i] = map[string]bool{}
		for _, action := range found {
			offered[i][action.Name] = !action.Disabled
		}
	}
	return offered, nil
}

// act runs one action: the objects as Argo CD would send them.
func act(asked *request) (any, error) {
	known, err := overrides(asked)
	if err != nil {
		return nil, err
	}
	parameters := []*applicationpkg.ResourceActionParameters{}
	for name, value := range asked.Parameters {
		parameters = append(parameters, &applicationpkg.ResourceActionParameters{Name: &name, Value: &value})
	}
	sort.Slice(parameters, func(a, b int) bool { return parameters[a].GetName() < parameters[b].GetName() })
	changed := make([]map[string]any, len(asked.Objects))
	for i, object := range asked.Objects {
		vm := lua.VM{ResourceOverrides: known}
		action, err := vm.GetResourceAction(object, asked.Action)
		if err != nil {
			return nil, err
		}
		impacted, err := vm.ExecuteResourceAction(object, action.ActionLua, parameters)
		if err != nil {
			return nil, err
		}
		if len(impacted) != 1 || impacted[0].K8SOperation != lua.PatchOperation {
			return nil, fmt.Errorf("%s does something else than to change one object", asked.Action)
		}
		changed[i] = impacted[0].UnstructuredObj.Object
	}
	return changed, nil
}

// diff says of each object whether it is out of sync.
func diff(asked *request) (any, error) {
	known, err := overrides(asked)
	if err != nil {
		return nil, err
	}
	config, err := argodiff.NewDiffConfigBuilder().
		WithDiffSettings(nil, known, true, normalizers.IgnoreNormalizerOpts{}).
		WithTracking(common.LabelKeyAppInstance, string(v1alpha1.TrackingMethodAnnotation)).
		WithNoCache().
		WithManager(common.ArgoCDSSAManager).
		Build()
	if err != nil {
		return nil, err
	}
	differs := make([]bool, len(asked.Objects))
	for i, object := range asked.Objects {
		result, err := argodiff.StateDiff(object, asked.Git[i], config)
		if err != nil {
			return nil, err
		}
		differs[i] = result.Modified
	}
	return differs, nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	fluxpolling "github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	helm "helm.sh/helm/v4/pkg/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/kubectl/pkg/cmd/wait"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What an object is taken for.
const (
	done    = "done"
	goingOn = "going on"
	failed  = "failed"
)

// verdict is what one tool says, in its own words and in those of all.
type verdict struct {
	Says  string `json:"says"`
	Means string `json:"means"`
}

// meanings of the words with which tools of the kstatus family speak.
var meanings = map[string]string{
	status.CurrentStatus.String():     done,
	status.InProgressStatus.String():  goingOn,
	status.TerminatingStatus.String(): goingOn,
	status.FailedStatus.String():      failed,
}

// tool reads one object in a cluster, and waits for so long.
type tool func(*cluster, *unstructured.Unstructured, time.Duration) (verdict, error)

var tools = map[string]tool{
	"kstatus":      kstatus,
	"kubectl wait": kubectlWait,
	"Helm":         helmWait,
	"Flux":         fluxWait,
}

// verdicts of every tool on every object; those that wait do so all at once.
func verdicts(asked *request) (any, error) {
	byArgoCD, err := healthOf(asked)
	if err != nil {
		return nil, err
	}
	cluster := serve(asked.Objects)
	defer cluster.CloseClientConnections()
	said := make([]map[string]verdict, len(asked.Objects))
	errs := make([]error, len(asked.Objects))
	var waiting sync.WaitGroup
	for i, object := range asked.Objects {
		waiting.Go(func() {
			said[i] = map[string]verdict{"Argo CD": byArgoCD[i]}
			for name, ask := range tools {
				answer, err := patiently(ask, cluster, object, asked.patience())
				if err != nil {
					errs[i] = fmt.Errorf("%s, object %d: %w", name, i, err)
				}
				said[i][name] = answer
			}
		})
	}
	waiting.Wait()
	return said, errors.Join(errs...)
}

// patiently asks again with more time where a busy machine left a tool without any status.
func patiently(ask tool, c *cluster, object *unstructured.Unstructured, patience time.Duration) (verdict, error) {
	for {
		answer, err := ask(c, object, patience)
		if err == nil || patience > time.Minute {
			return answer, err
		}
		patience *= 4
	}
}

func kstatus(_ *cluster, object *unstructured.Unstructured, _ time.Duration) (verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{result.Status.String(), meanings[result.Status.String()]}, nil
}

// kubectlWait is done when Ready is met. It knows no failure; scripts wait for Stalled as well.
func kubectlWait(c *cluster, object *unstructured.Unstructured, _ time.Duration) (verdict, error) {
	for _, condition := range []struct{ name, means string }{{"Ready", done}, {"Stalled", failed}} {
		met, err := isMet(c, object, condition.name)
		if err != nil {
			return verdict{}, err
		}
		if met {
			return verdict{condition.name + " met", condition.means}, nil
		}
	}
	return verdict{"not met", goingOn}, nil
}

func isMet(c *cluster, object *unstructured.Unstructured, condition string) (bool, error) {
	streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}
	flags := wait.NewWaitFlags(c.getter(object.GetNamespace()), streams)
	flags.ForCondition = []string{"condition=" + condition}
	flags.Timeout = 0
	options, err := flags.ToOptions([]string{pluralOf(object) + "." + version.Group + "/" + object.GetName()})
	if err != nil {
		return false, err
	}
	err = options.RunWait()
	if err != nil && !strings.Contains(err.Error(), "condition not met") {
		return false, err
	}
	return err == nil, nil
}

func helmWait(c *cluster, object *unstructured.Unstructured, patience time.Duration) (verdict, error) {
	waiter, err := helm.New(c.getter(object.GetNamespace())).GetWaiter(helm.StatusWatcherStrategy)
	if err != nil {
		return verdict{}, err
	}
	list := helm.ResourceList{&resource.Info{
		Name: object.GetName(), Namespace: object.GetNamespace(), Object: object.DeepCopy(),
	}}
	return named(waiter.Wait(list, patience), "status: ")
}

func fluxWait(c *cluster, object *unstructured.Unstructured, patience time.Duration) (verdict, error) {
	reader, err := client.New(c.config(), client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		return verdict{}, err
	}
	poller := fluxpolling.NewStatusPoller(reader, reader.RESTMapper(), fluxpolling.Options{})
	manager := ssa.NewResourceManager(reader, poller, ssa.Owner{})
	return named(manager.Wait([]*unstructured.Unstructured{object}, ssa.WaitOptions{
		Interval: 200 * time.Millisecond, Timeout: patience, FailFast: true,
	}), "status: '")
}

// named finds the status in what a tool says when it has timed out.
func named(err error, before string) (verdict, error) {
	if err == nil {
		return verdict{status.CurrentStatus.String(), done}, nil
	}
	_, after, _ := strings.Cut(err.Error(), before)
	for word, means := range meanings {
		if strings.HasPrefix(after, word) {
			return verdict{word, means}, nil
		}
	}
	return verdict{}, err
}

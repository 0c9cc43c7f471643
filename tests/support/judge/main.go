// Judge asks the tools that users put in front of the operator what they take an object for, by the tools' own code.
//
// A request is read from stdin, the answer is written to stdout, both JSON; the argument says what is asked. It must
// not judge anything itself.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// request is what can be asked about; each question reads what it needs.
type request struct {
	// The ConfigMap from which Argo CD takes health and actions.
	ArgoCD *corev1.ConfigMap `json:"argocd"`
	// The objects, as they are in the cluster.
	Objects []*unstructured.Unstructured `json:"objects"`
	// The same as they are in git.
	Git []*unstructured.Unstructured `json:"git"`
	// An action of Argo CD and its parameters.
	Action     string            `json:"action"`
	Parameters map[string]string `json:"parameters"`
	// How long tools that wait may do so.
	Seconds int `json:"seconds"`
}

func (r *request) patience() time.Duration {
	return time.Duration(r.Seconds) * time.Second
}

// questions by their names; each answer has one entry for each object.
var questions = map[string]func(*request) (any, error){
	// what every tool takes the objects for
	"verdicts": verdicts,
	// Argo CD's health alone, which is quick
	"health": health,
	// the actions that Argo CD offers
	"actions": actions,
	// what an action of Argo CD makes of the objects
	"act": act,
	// whether Argo CD takes an object for different from git
	"diff": diff,
}

func main() {
	quiet()
	if err := answer(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func answer(args []string) error {
	if len(args) != 1 || questions[args[0]] == nil {
		return fmt.Errorf("expected one question, got %q", args)
	}
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	found, err := questions[args[0]](&asked)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// What goes wrong is in the answer; the tools' logs would only hide it.
func quiet() {
	logrus.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	klog.SetLogger(klog.NewKlogr().V(100))
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	ctrllog.SetLogger(klog.NewKlogr().V(100))
}

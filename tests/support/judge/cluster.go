package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
)

// version is the one that both kinds are served in.
var version = schema.GroupVersion{Group: "chatcaptain.dev", Version: "v1alpha1"}

// cluster serves objects as an API server would, and never changes them: what tools do that wait, they do against it.
type cluster struct {
	*httptest.Server
	objects []*unstructured.Unstructured
}

func serve(objects []*unstructured.Unstructured) *cluster {
	c := &cluster{objects: objects}
	c.Server = httptest.NewServer(c)
	return c
}

func (c *cluster) config() *rest.Config {
	return &rest.Config{Host: c.URL, QPS: -1}
}

// getter is how kubectl and Helm find a cluster and their namespace; nothing of this machine's kubeconfig is used.
func (c *cluster) getter(namespace string) genericclioptions.RESTClientGetter {
	flags := genericclioptions.NewConfigFlags(false).WithWrapConfigFn(func(*rest.Config) *rest.Config {
		return c.config()
	})
	flags.APIServer, flags.Namespace = &c.URL, &namespace
	return flags
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(r.URL.Path, "/")
	parts := strings.Split(path, "/")
	switch {
	case path == "api":
		reply(w, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{}})
	case path == "apis":
		reply(w, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList"}, Groups: []metav1.APIGroup{group()}})
	case path == "apis/"+version.Group:
		reply(w, group())
	case path == "apis/"+version.String():
		reply(w, resources())
	case len(parts) >= 6 && parts[3] == "namespaces" && r.URL.Query().Get("watch") != "":
		// nothing ever happens
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case len(parts) == 6 && parts[3] == "namespaces":
		c.list(w, parts[4], parts[5])
	case len(parts) == 7 && parts[3] == "namespaces":
		c.get(w, parts[4], parts[5], parts[6])
	default:
		http.NotFound(w, r)
	}
}

func (c *cluster) get(w http.ResponseWriter, namespace, plural, name string) {
	for _, object := range c.objects {
		if object.GetNamespace() == namespace && pluralOf(object) == plural && object.GetName() == name {
			reply(w, object)
			return
		}
	}
	http.Error(w, "not found", http.StatusNotFound)
}

func (c *cluster) list(w http.ResponseWriter, namespace, plural string) {
	items := []any{}
	for _, object := range c.objects {
		if object.GetNamespace() == namespace && pluralOf(object) == plural {
			items = append(items, object)
		}
	}
	reply(w, map[string]any{
		"apiVersion": version.String(), "kind": "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items,
	})
}

func pluralOf(object *unstructured.Unstructured) string {
	return strings.ToLower(object.GetKind()) + "s"
}

func group() metav1.APIGroup {
	served := metav1.GroupVersionForDiscovery{GroupVersion: version.String(), Version: version.Version}
	return metav1.APIGroup{
		TypeMeta:         metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:             version.Group,
		Versions:         []metav1.GroupVersionForDiscovery{served},
		PreferredVersion: served,
	}
}

func resources() metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: version.String()}
	for _, kind := range []string{"ChatbotVersion", "ChatbotDeployment"} {
		singular := strings.ToLower(kind)
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: singular + "s", SingularName: singular, Namespaced: true, Kind: kind,
			Verbs: metav1.Verbs{"get", "list", "watch"},
		})
	}
	return list
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	// the client has gone away if this fails
	_ = json.NewEncoder(w).Encode(body)
}

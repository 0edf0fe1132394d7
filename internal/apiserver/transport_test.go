package apiserver_test

import (
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"clipper.dev/clipper/internal/api"
	"clipper.dev/clipper/internal/api/core"
)

func TestTheTransportIsTheUserThatItWasMadeFor(t *testing.T) {
	f := newFixture(t, core.ReplicationControllers, core.ConfigMaps)
	c, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid", Transport: f.Transport(api.UserInfo{Name: "ann", Groups: []string{"system:masters"}}), QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list: %v", err)
	}
	_, err = c.CoreV1().ReplicationControllers("default").UpdateScale(t.Context(), "none", &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "none"}}, metav1.UpdateOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a scale that isn't there: %v", err)
	}
}

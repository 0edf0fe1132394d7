package samedatabase

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// TestNodePortsAreGivenOnceWhileBothServe lets both servers give ports at the same time.
func TestNodePortsAreGivenOnceWhileBothServe(t *testing.T) {
	prepare(t)
	address, db := startEtcd(t)
	clients := map[string]corev1client.ServiceInterface{}
	for _, name := range []string{"Clipper", "kube-apiserver"} {
		client, err := corev1client.NewForConfig(sides[name].up(t, address).config(t))
		if err != nil {
			t.Fatal(err)
		}
		clients[name] = client.Services(metav1.NamespaceDefault)
		waitFor(t, name+" gives ports", func() bool {
			_, err := clients[name].Create(t.Context(), nodePortService("probe"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil
		})
	}
	var mu sync.Mutex
	var ports []int32
	var g sync.WaitGroup
	for name, services := range clients {
		for i := range 20 {
			g.Go(func() {
				made, err := services.Create(t.Context(), nodePortService(fmt.Sprintf("%s-%d", strings.ToLower(name), i)), metav1.CreateOptions{})
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ports = append(ports, made.Spec.Ports[0].NodePort)
			})
		}
	}
	g.Wait()
	if unique := slices.Compact(slices.Sorted(slices.Values(ports))); len(unique) != len(ports) {
		t.Errorf("given twice: %v", ports)
	}
	for name, services := range clients {
		for _, port := range ports {
			thief := nodePortService("thief")
			thief.Spec.Ports[0].NodePort = port
			if _, err := services.Create(t.Context(), thief, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "provided port is already allocated") {
				t.Errorf("%s gives %d again: %v", name, port, err)
			}
		}
	}
	records, err := db.Get(t.Context(), "/registry/ranges/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range records.Kvs {
		if string(kv.Key) != "/registry/ranges/servicenodeports" {
			t.Errorf("another record: %s", kv.Key)
		}
	}
}

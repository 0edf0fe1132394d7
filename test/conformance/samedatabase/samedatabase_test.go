package samedatabase

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
)

var (
	clipperPath   = flag.String("clipper", "../../../bin/clipper", "Clipper")
	etcdPath      = flag.String("etcd", "../../../out/bench/etcd", "upstream's etcd")
	apiserverPath = flag.String("kube-apiserver", "../../../out/bench/kube-apiserver", "upstream's kube-apiserver")
)

func TestMain(m *testing.M) {
	flag.Parse()
	for _, path := range []string{*clipperPath, *etcdPath, *apiserverPath} {
		if _, err := os.Stat(path); err != nil {
			fmt.Println("both servers and etcd must be built, which \"make samedatabase\" does:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := purge(); err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

func TestBothServersStandOnOneDatabase(t *testing.T) {
	for _, order := range [][2]string{{"Clipper", "kube-apiserver"}, {"kube-apiserver", "Clipper"}} {
		t.Run(order[0]+" begins", func(t *testing.T) {
			prepare(t)
			address, db := startEtcd(t)
			first := sides[order[0]].up(t, address)
			fixtures := first.create(t)
			t.Logf("%d objects", len(fixtures))
			checkStored(t, db, fixtures)
			second := sides[order[1]].up(t, address)
			waitFor(t, "both serve the same resources", func() bool {
				return slices.Equal(names(first.listable(t)), names(second.listable(t)))
			})
			exchange(t, first, second, fixtures)
			checkStored(t, db, fixtures)
			for _, f := range fixtures {
				second.delete(t, f)
			}
			compareAll(t, first, second)
		})
	}
}

// prepare makes Clipper's certificates and keys, which both servers use, by starting it once.
func prepare(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(dataDir + "/pki/encryption.yaml"); err == nil {
		return
	}
	address, _ := startEtcd(t)
	sides["Clipper"].up(t, address).process.stop()
}

func names(known map[schema.GroupVersionResource]metav1.APIResource) []string {
	var out []string
	for gvr := range known {
		out = append(out, gvr.String())
	}
	slices.Sort(out)
	return out
}

func compareAll(t *testing.T, first, second *server) {
	t.Helper()
	for _, gvr := range slices.SortedFunc(maps.Keys(first.listable(t)), func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) }) {
		compare(t, first, second, gvr)
	}
}

// exchange lets each read and update what the other wrote.
func exchange(t *testing.T, first, second *server, fixtures []fixture) {
	t.Helper()
	compareAll(t, first, second)
	for _, s := range []*server{second, first} {
		for _, f := range fixtures {
			s.replace(t, f, s.name)
			s.label(t, f, s.name+"-again")
		}
		compareAll(t, first, second)
	}
}

// checkStored holds where and as what each object is stored against upstream's list.
func checkStored(t *testing.T, db *clientv3.Client, fixtures []fixture) {
	t.Helper()
	for _, f := range fixtures {
		resp, err := db.Get(t.Context(), f.key)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 0 {
			t.Errorf("%v is not stored at %s", f.gvr, f.key)
			continue
		}
		value := resp.Kvs[0].Value
		got, readable := storedAs(t, value)
		if f.gvr.Resource == "secrets" == readable {
			t.Errorf("%v is encrypted: %v", f.gvr, !readable)
		}
		if readable && got != f.stored {
			t.Errorf("%v is stored as %v, not as %v", f.gvr, got, f.stored)
		}
	}
}

// TestAddressesAndPortsOutliveTheServerThatGaveThem starts the servers one after the other on one database.
func TestAddressesAndPortsOutliveTheServerThatGaveThem(t *testing.T) {
	prepare(t)
	address, _ := startEtcd(t)
	var given []*corev1.Service
	for round, name := range []string{"Clipper", "kube-apiserver", "Clipper", "kube-apiserver"} {
		s := sides[name].up(t, address)
		client, err := kubernetes.NewForConfig(s.config(t))
		if err != nil {
			t.Fatal(err)
		}
		services := client.CoreV1().Services(metav1.NamespaceDefault)
		waitFor(t, "the range of addresses can be used", func() bool {
			_, err := services.Create(t.Context(), nodePortService("probe"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil
		})
		for _, other := range given {
			port := nodePortService("thief")
			port.Spec.Ports[0].NodePort = other.Spec.Ports[0].NodePort
			if _, err := services.Create(t.Context(), port, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "provided port is already allocated") {
				t.Errorf("%s gives away a port that %s has: %v", name, other.Name, err)
			}
			ip := nodePortService("thief")
			ip.Spec.ClusterIP = other.Spec.ClusterIP
			if _, err := services.Create(t.Context(), ip, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "provided IP is already allocated") {
				t.Errorf("%s gives away an address that %s has: %v", name, other.Name, err)
			}
		}
		if round > 1 { // what the other gave can be given back
			gone := given[0]
			given = given[1:]
			if err := services.Delete(t.Context(), gone.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
			heir := nodePortService("heir-" + gone.Name)
			heir.Spec.ClusterIP, heir.Spec.Ports[0].NodePort = gone.Spec.ClusterIP, gone.Spec.Ports[0].NodePort
			waitFor(t, "what a deleted service had can be had again", func() bool {
				made, err := services.Create(t.Context(), heir, metav1.CreateOptions{})
				if err == nil {
					given = append(given, made)
				}
				return err == nil
			})
		}
		made, err := services.Create(t.Context(), nodePortService(fmt.Sprintf("service-%d", round)), metav1.CreateOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		given = append(given, made)
		s.process.stop()
	}
}

func nodePortService(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

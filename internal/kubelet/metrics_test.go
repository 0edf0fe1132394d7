package kubelet

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/exposition/expositiontest"
)

// documented and outputs are what expositiontest.Page.Record makes the lists from.
var (
	documented = flag.String("documented", "", "test/instrumentation/documentation/documentation-list.yaml of Kubernetes: rewrite the lists of its metrics from it")
	outputs    = flag.String("outputs", "", "with -documented: folder of what upstream's components serve, each page in a file by its name")
)

// TestMetricsAreUpstreams has a kubelet run pods of many sorts, and holds what it then tells against what upstream's does.
func TestMetricsAreUpstreams(t *testing.T) {
	pages := map[string]*expositiontest.Page{}
	for name, path := range map[string]string{"metrics": "/metrics", "probes": "/metrics/probes", "resource": "/metrics/resource"} {
		pages[path] = &expositiontest.Page{List: "testdata/" + name + ".tsv", Components: []string{"kubelet"}, Endpoint: path}
		if path != "/metrics/probes" {
			pages[path].Unserved = "testdata/" + name + "-unserved.yaml"
		}
		// What is told of requests to the API and of certificates is counted around the kubelet, and held against upstream's there.
		pages[path].Except = []string{"rest_client_", "kubelet_certificate_manager_", "kubelet_server_expiration_"}
		if *documented != "" {
			pages[path].Record(t, *documented, *outputs)
		}
	}
	r := newRig(t)
	r.stop()
	if err := client.Nodes.Delete(t.Context(), r.api, "", testNode, metav1.DeleteOptions{}); err != nil { // how long a new one takes is measured
		t.Fatal(err)
	}
	r.cfg.Settings.ReadOnlyPort = freePort(t)
	r.start()
	r.exercise()

	shown := map[string]map[string]*dto.MetricFamily{}
	var still map[string]float64 // what hasn't moved that far yet
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for path := range pages {
			shown[path] = r.scrape(path)
		}
		still = map[string]float64{}
		for name, least := range moved {
			if got := expositiontest.Sum(shown["/metrics"][name]); got < least || shown["/metrics"][name] == nil {
				still[name] = got
			}
		}
		if len(still) == 0 {
			break
		}
	}
	for name, got := range still {
		t.Errorf("%s is %v in all, not at least %v", name, got, moved[name])
	}
	registered := expositiontest.Describe(r.k.metrics.registry)
	pages["/metrics"].Compare(t, registered, shown["/metrics"])
	pages["/metrics/probes"].Compare(t, expositiontest.Describe(r.k.metrics.probes), shown["/metrics/probes"])
	pages["/metrics/resource"].Compare(t, map[string]expositiontest.Description{}, shown["/metrics/resource"])
	if slis := r.scrape("/metrics/slis"); expositiontest.Sum(slis["kubernetes_healthcheck"]) != 3 {
		t.Errorf("/metrics/slis tells of %v", slis)
	}
}

// moved is what exercise moves, and by how much at least.
var moved = map[string]float64{
	"kubelet_active_pods": 2, "kubelet_desired_pods": 3, "kubelet_working_pods": 3, "kubelet_running_pods": 2, "kubelet_running_containers": 2,
	"kubelet_containers_per_pod_count": 4, "kubelet_managed_ephemeral_containers": 1, "kubelet_container_log_filesystem_used_bytes": 0,
	"kubelet_pod_start_duration_seconds": 2, "kubelet_pod_start_total_duration_seconds": 2, "kubelet_pod_start_sli_duration_seconds": 1,
	"kubelet_first_network_pod_start_sli_duration_seconds": 0, "kubelet_pod_worker_start_duration_seconds": 4, "kubelet_pod_worker_duration_seconds": 5,
	"kubelet_pod_status_sync_duration_seconds": 4, "kubelet_started_pods_total": 3, "kubelet_started_containers_total": 4,
	"kubelet_started_user_namespaced_pods_total": 1, "kubelet_terminated_containers_total": 1, "kubelet_admission_rejections_total": 1,
	"kubelet_image_volume_requested_total": 1, "kubelet_image_volume_mounted_succeed_total": 1, "kubelet_image_manager_ensure_image_requests_total": 4,
	"kubelet_imagemanager_image_mustpull_checks_total": 3, "kubelet_image_pull_duration_seconds": 1, "kubelet_imagemanager_ondisk_pulledrecords": 1,
	"kubelet_cgroup_manager_duration_seconds": 6, "kubelet_cgroup_version": 1,
	"kubelet_container_requested_resizes_total": 1, "kubelet_pod_resize_duration_milliseconds": 1, "kubelet_pod_pending_resizes": 1,
	"kubelet_runtime_operations_total": 20, "kubelet_run_podsandbox_duration_seconds": 3,
	"kubelet_pleg_relist_duration_seconds": 1, "kubelet_pleg_relist_interval_seconds": 1, "kubelet_pleg_pod_relist_duration_seconds": 4, "kubelet_pleg_last_seen_seconds": 1,
	"kubelet_evented_pleg_connection_success_count": 1, "kubelet_evented_pleg_connection_latency_seconds": 1,
	"kubelet_node_startup_pre_kubelet_duration_seconds": 1, "kubelet_node_startup_duration_seconds": 1,
	"kubelet_http_requests_total": 2, "kubelet_http_requests_duration_seconds": 1, "kubelet_http_inflight_requests": 1,
	"kubelet_sleep_action_terminated_early_total": 1, "kubelet_orphaned_runtime_pods_total": 0,
	"storage_operation_duration_seconds": 3, "volume_operation_total_seconds": 3, "volume_manager_total_volumes": 2,
	"kubelet_volume_metric_collection_duration_seconds": 1,
}

// exercise runs pods that start, end, are refused and change. What becomes of them is for other tests.
func (r *rig) exercise() {
	r.t.Helper()
	alike := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		return testPod(name, func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.Now()
			if change != nil {
				change(p)
			}
		})
	}
	r.rt.AddImage("files:v1")
	no, mode := false, int32(0o644)
	r.create(alike("many", func(p *corev1.Pod) {
		p.Spec.HostUsers = &no
		c := &p.Spec.Containers[0]
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 1}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "i", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "files:v1", PullPolicy: corev1.PullIfNotPresent}}},
		}
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultMode: &mode}}})
		c.VolumeMounts = []corev1.VolumeMount{{Name: "e", MountPath: "/e"}, {Name: "i", MountPath: "/i"}, {Name: "d", MountPath: "/d"}}
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "look", Image: "app:v1", ImagePullPolicy: corev1.PullIfNotPresent}}}
	}))
	r.create(alike("plain", func(p *corev1.Pod) { p.Spec.Containers[0].ImagePullPolicy = corev1.PullAlways }))
	r.create(alike("large", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("9000")}
	}))
	for _, name := range []string{"many", "plain"} {
		r.eventually(name, "running", running)
	}
	ids, _ := r.rt.Containers("app")
	r.rt.Exit(ids[0], 1)
	r.create(alike("short", func(p *corev1.Pod) {
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 20}}}
		one := int64(1)
		p.Spec.TerminationGracePeriodSeconds = &one
	}))
	r.eventually("short", "running", running)
	if err := client.Pods.Delete(r.t.Context(), r.api, "default", "short", metav1.DeleteOptions{}); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("short", "gone", gone)
	for _, cpu := range []string{"150m", "9000"} {
		pod := r.eventually("many", "running", running).DeepCopy()
		pod.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(cpu)
		pod.Generation++
		if _, err := client.Pods.Update(r.t.Context(), r.api, pod); err != nil {
			r.t.Fatal(err)
		}
		r.eventually("many", "resized or refused", func(p *corev1.Pod) bool {
			done := p.Status.ContainerStatuses[0].AllocatedResources.Cpu().Cmp(resource.MustParse(cpu)) == 0
			return done && resizeCondition(p, corev1.PodResizeInProgress) == nil || resizeCondition(p, corev1.PodResizePending) != nil
		})
	}
	for _, path := range []string{"/stats/summary", "/healthz"} {
		r.get(path)
	}
}

func freePort(t *testing.T) int32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// get asks the kubelet's read-only API.
func (r *rig) get(path string) []byte {
	r.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", r.cfg.Settings.ReadOnlyPort, path))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return data
}

func (r *rig) scrape(path string) map[string]*dto.MetricFamily {
	return expositiontest.Parse(r.t, r.get(path))
}

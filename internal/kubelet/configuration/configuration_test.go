package configuration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

const header = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

func own() kubeletconfig.KubeletConfiguration {
	return kubeletconfig.KubeletConfiguration{ContainerRuntimeEndpoint: "unix:///run/own.sock", CgroupRoot: "/own", PodLogsDir: "/var/log/own", Port: 10250, ClusterDomain: "cluster.local"}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsComeAfterDropInsAndDropInsAfterTheFile(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "kubelet.yaml"), header+"maxPods: 10\npodPidsLimit: 100\nevictionHard:\n  memory.available: 1Mi\n  nodefs.available: 1%\nclusterDNS: [192.0.2.1]\n")
	drops := filepath.Join(dir, "conf.d")
	writeFile(t, filepath.Join(drops, "20.conf"), header+"podPidsLimit: 300\n")
	writeFile(t, filepath.Join(drops, "10.conf"), header+"podPidsLimit: 200\nevictionHard:\n  memory.available: 2Mi\nclusterDNS: [192.0.2.2]\n")
	writeFile(t, filepath.Join(drops, "30.yaml"), "not read")
	given, err := Read(file, drops)
	if err != nil {
		t.Fatal(err)
	}
	given.Set("maxPods", int64(30))
	c, err := given.Complete(own())
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxPods != 30 || *c.PodPidsLimit != 300 || !reflect.DeepEqual(c.ClusterDNS, []string{"192.0.2.2"}) ||
		!reflect.DeepEqual(c.EvictionHard, map[string]string{"memory.available": "2Mi", "nodefs.available": "1%"}) {
		t.Errorf("got maxPods %d, podPidsLimit %d, clusterDNS %v, evictionHard %v", c.MaxPods, *c.PodPidsLimit, c.ClusterDNS, c.EvictionHard)
	}
	if c.CgroupRoot != "/own" || c.ImageMinimumGCAge.Duration != 2*time.Minute {
		t.Errorf("the cluster's own cgroupRoot is %q, the default imageMinimumGCAge %v", c.CgroupRoot, c.ImageMinimumGCAge)
	}
}

func TestAFileIsReadStrictly(t *testing.T) {
	for name, text := range map[string]string{
		"a field that there isn't": header + "maxPodz: 1\n",
		"a field given twice":      header + "maxPods: 1\nmaxPods: 2\n",
		"a value of another type":  header + "maxPods: many\n",
		"no kind":                  "maxPods: 1\n",
		"another kind":             "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: CredentialProviderConfig\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Read(writeFile(t, filepath.Join(t.TempDir(), "f"), text), ""); err == nil {
				t.Errorf("read as %v", got)
			}
		})
	}
}

func TestWhatIsInEffectCanBeGivenAgain(t *testing.T) {
	first, err := Given{}.Complete(own())
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	given, err := Read(writeFile(t, filepath.Join(t.TempDir(), "f"), string(text)), "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := given.Complete(kubeletconfig.KubeletConfiguration{})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(first)
	b, _ := json.Marshal(second)
	if string(a) != string(b) {
		t.Errorf("first\n%s\nthen\n%s", a, b)
	}
}

func TestEveryFieldIsInEffectOrRefused(t *testing.T) {
	for line, want := range map[string]string{
		`featureGates: {MemoryQoS: true}`:                               "featureGates: MemoryQoS can only be false here",
		`featureGates: {NoSuchGate: true}`:                              "unrecognized feature gate: NoSuchGate",
		`featureGates: {NodeSwap: true, CustomCPUCFSQuotaPeriod: true}`: "",
		`featureGates: {PodLevelResources: false}`:                      "InPlacePodLevelResourcesVerticalScaling is enabled, but depends on features that are disabled: [PodLevelResources]",
		`featureGates: {PodLevelResources: false, InPlacePodLevelResourcesVerticalScaling: false, DisableCPUQuotaWithExclusiveCPUs: false}`: "",
		`featureGates: {PodAndContainerStatsFromCRI: true}`:                                                                         "",
		`featureGates: {RotateKubeletServerCertificate: false}`:                                                                     "featureGates: RotateKubeletServerCertificate can only be true here",
		`{tlsCertFile: /c, tlsPrivateKeyFile: /k, featureGates: {RotateKubeletServerCertificate: false}}`:                           "",
		`{tlsCertFile: /c, tlsPrivateKeyFile: /k, serverTLSBootstrap: true, featureGates: {RotateKubeletServerCertificate: false}}`: "",
		`cgroupDriver: systemd`:                                            "cgroupDriver systemd: it can only be cgroupfs",
		`cgroupsPerQOS: false`:                                             "cgroupsPerQOS false: it can only be true",
		`rotateCertificates: false`:                                        "rotateCertificates false",
		`runOnce: true`:                                                    "invalid configuration: runOnce (--runOnce) true",
		`memorySwap: {swapBehavior: LimitedSwap}`:                          "memorySwap.swapBehavior LimitedSwap",
		`memorySwap: {swapBehavior: NoSwap}`:                               "",
		`staticPodURL: http://192.0.2.1/`:                                  "staticPodURL: static pods come from a folder alone",
		`imageGCHighThresholdPercent: 70`:                                  "imageGCLowThresholdPercent (--image-gc-low-threshold) 80 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 70",
		`enforceNodeAllocatable: [system-reserved]`:                        `systemReservedCgroup (--system-reserved-cgroup) must be specified`,
		`enforceNodeAllocatable: [none]`:                                   "",
		`crashLoopBackOff: {maxContainerRestartPeriod: 301s}`:              "CrashLoopBackOff.MaxContainerRestartPeriod",
		`crashLoopBackOff: {maxContainerRestartPeriod: 2s}`:                "",
		`cpuManagerPolicyOptions: {align-by-socket: "true"}`:               `CPU Manager Policy Alpha-level Options not enabled, but option "align-by-socket" provided`,
		`{serializeImagePulls: true, maxParallelImagePulls: 2}`:            "maxParallelImagePulls cannot be larger than 1",
		`{shutdownGracePeriod: 10s, shutdownGracePeriodCriticalPods: 20s}`: "shutdownGracePeriodCriticalPods {20s} must be <= shutdownGracePeriod {10s}",
		`eventRecordQPS: 5`:                                                "eventRecordQPS: events are limited for each object",
		`logging: {format: json}`:                                          "logging: the log is the whole process' own",
		`port: 70000`:                                                      "port (--port) 70000 must be between 1 and 65535",
		`{healthzPort: 10248, readOnlyPort: 10255, tlsMinVersion: VersionTLS13, registryPullQPS: 3}`: "",
	} {
		t.Run(line, func(t *testing.T) {
			given := Given{}
			if err := yaml.Unmarshal([]byte(line), &given); err != nil {
				t.Fatal(err)
			}
			_, err := given.Complete(own())
			switch {
			case want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("got %v, want one line with %q", err, want)
			}
		})
	}
}

func TestCrashWaits(t *testing.T) {
	for line, want := range map[string][2]time.Duration{
		`{}`: {10 * time.Second, 5 * time.Minute},
		`{featureGates: {ReduceDefaultCrashLoopBackOffDecay: true, KubeletCrashLoopBackOffMax: false}}`:                  {time.Second, time.Minute},
		`{featureGates: {ReduceDefaultCrashLoopBackOffDecay: true}, crashLoopBackOff: {maxContainerRestartPeriod: 40s}}`: {time.Second, 40 * time.Second},
		`{crashLoopBackOff: {maxContainerRestartPeriod: 5s}}`:                                                            {5 * time.Second, 5 * time.Second},
	} {
		given := Given{}
		if err := yaml.Unmarshal([]byte(line), &given); err != nil {
			t.Fatal(err)
		}
		c, err := given.Complete(own())
		if err != nil {
			t.Fatal(err)
		}
		if first, longest := CrashWaits(c); first != want[0] || longest != want[1] {
			t.Errorf("%s: %v to %v, want %v", line, first, longest, want)
		}
	}
}

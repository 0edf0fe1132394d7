package cri

import "testing"

func TestCallsAreNamedAsUpstreamNamesThem(t *testing.T) {
	names := operations()
	for method, want := range map[string]string{
		"/runtime.v1.RuntimeService/RunPodSandbox":             "run_podsandbox",
		"/runtime.v1.RuntimeService/PodSandboxStatus":          "podsandbox_status",
		"/runtime.v1.RuntimeService/UpdatePodSandboxResources": "update_podsandbox_resources",
		"/runtime.v1.RuntimeService/UpdateContainerResources":  "update_container",
		"/runtime.v1.RuntimeService/GetContainerEvents":        "get_container_events",
		"/runtime.v1.ImageService/ImageFsInfo":                 "image_fs_info",
	} {
		if got := names[method]; got != want {
			t.Errorf("%s: %q, want %q", method, got, want)
		}
	}
}

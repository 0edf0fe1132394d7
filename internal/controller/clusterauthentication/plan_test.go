package clusterauthentication

import "testing"

func TestWhatAggregatedServersRead(t *testing.T) {
	got, err := published(map[string]string{"other": "kept", "client-ca-file": "old"}, []byte("ca"), []byte("proxy"), Proxy{
		AllowedNames: []string{"front-proxy-client"}, UserHeaders: []string{"X-Remote-User"}, GroupHeaders: []string{"X-Remote-Group"}, ExtraPrefixes: []string{"X-Remote-Extra-"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"other": "kept", "client-ca-file": "ca", "requestheader-client-ca-file": "proxy", "requestheader-allowed-names": `["front-proxy-client"]`,
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-group-headers": `["X-Remote-Group"]`, "requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	} {
		if got[key] != want {
			t.Errorf("%s: got %q", key, got[key])
		}
	}
}

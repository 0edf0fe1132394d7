package aggregator

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/apiserver"
)

const swagger = `{"swagger":"2.0","info":{"title":"t","version":"1"},"paths":{
	"/apis/wardle.example.com/v1/flunders":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/Flunder"}}}}},
	"/apis/other.example.com/v1/things":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/Thing"}}}}}},
	"definitions":{"Flunder":{"type":"object"},"Thing":{"type":"object"}}}`

func TestARemoteServersDocumentsAreTakenOver(t *testing.T) {
	gv := schema.GroupVersion{Group: "wardle.example.com", Version: "v1"}
	for name, v3 := range map[string]bool{"a server of today": true, "one without version 3": false} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			mux := http.NewServeMux()
			if v3 {
				mux.HandleFunc("/openapi/v3", func(w http.ResponseWriter, _ *http.Request) {
					_, _ = w.Write([]byte(`{"paths":{"apis/wardle.example.com/v1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1?hash=A"}}}`))
				})
				mux.HandleFunc("/openapi/v3/apis/wardle.example.com/v1", func(w http.ResponseWriter, _ *http.Request) {
					asked++
					_, _ = w.Write([]byte(`{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{"/apis/wardle.example.com/v1/flunders":{}}}`))
				})
			}
			mux.HandleFunc("/openapi/v2", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Remote-User") != "system:aggregator" {
					t.Error("asked by somebody else")
				}
				_, _ = w.Write([]byte(swagger))
			})
			server := httptest.NewTLSServer(mux)
			t.Cleanup(server.Close)
			remote := apiserver.Remote{Host: strings.TrimPrefix(server.URL, "https://"), Transport: server.Client().Transport}
			d, err := describe(t.Context(), remote, gv, nil)
			if err != nil {
				t.Fatal(err)
			}
			old, err := d.version2()
			if err != nil || len(old.Paths.Paths) != 1 || len(old.Definitions) != 1 {
				t.Errorf("version 2 is %v, %v", old, err)
			}
			doc, err := d.version3()
			if err != nil || doc.Paths == nil || doc.Paths.Paths["/apis/wardle.example.com/v1/flunders"] == nil {
				t.Errorf("version 3 is %v, %v", doc, err)
			}
			if again, err := describe(t.Context(), remote, gv, d); err != nil || again.hash != d.hash || v3 && asked != 1 {
				t.Errorf("asked %d times: %v", asked, err)
			}
		})
	}
}

package negotiate

import (
	"net/http/httptest"
	"testing"
)

func TestAResponseIsWhatTheClientLikesBest(t *testing.T) {
	for _, test := range []struct {
		accept string
		kind   Kind
		want   Media
		ok     bool
	}{
		{"", Any, Media{}, true},
		{"*/*", Any, Media{}, true},
		{"application/*", Any, Media{}, true},
		{"application/yaml", Any, Media{Format: YAML}, true},
		{"application/yaml", Streams, Media{}, false},
		{"application/yaml,application/json", Streams, Media{}, false},
		{"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", Any, Media{}, false},
		{"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", Any, Media{}, true},
		{"application/vnd.kubernetes.protobuf,application/json", Any, Media{Format: Protobuf}, true},
		{"application/json;q=0.5,application/vnd.kubernetes.protobuf;q=0.9", Any, Media{Format: Protobuf}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Any, Media{Shape: Table, Meta: "v1"}, true},
		{"application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Any, Media{}, true},
		{"application/json;as=Other;v=v1;g=meta.k8s.io", Any, Media{}, false},
		{"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Any, Media{Format: Protobuf, Shape: MetadataList, Meta: "v1"}, true},
		{"application/json;stream=watch", Streams, Media{}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io", Plain, Media{}, false},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Plain, Media{}, true},
		{"text/html", Any, Media{}, false},
		{"text/html,*/*;q=0.8", Any, Media{}, true},
	} {
		t.Run(test.accept, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept", test.accept)
			for range 2 { // the second answer is remembered
				if got, ok := Output(r, test.kind); got != test.want || ok != test.ok {
					t.Errorf("got %+v, %v; want %+v, %v", got, ok, test.want, test.ok)
				}
			}
		})
	}
}

func TestPeopleGetIndentedJSON(t *testing.T) {
	for _, test := range []struct {
		agent, query string
		want         bool
	}{
		{"curl/8", "", true},
		{"kubectl/v1.36", "", false},
		{"kubectl/v1.36", "pretty=true", true},
		{"curl/8", "pretty=0", false},
	} {
		r := httptest.NewRequest("GET", "/?"+test.query, nil)
		r.Header.Set("User-Agent", test.agent)
		if got, _ := Output(r, Any); got.Pretty != test.want {
			t.Errorf("%s %s: %v", test.agent, test.query, got.Pretty)
		}
	}
}

func TestABodySaysWhatItIs(t *testing.T) {
	for contentType, want := range map[string]struct {
		format Format
		ok     bool
	}{
		"":                                    {JSON, true},
		"application/json; charset=utf-8":     {JSON, true},
		"application/yaml":                    {YAML, true},
		"application/vnd.kubernetes.protobuf": {Protobuf, true},
		"text/plain":                          {JSON, false},
		"application/x; =":                    {JSON, false},
	} {
		if got, ok := Input(contentType); got != want.format || ok != want.ok {
			t.Errorf("%q: %v, %v", contentType, got, ok)
		}
	}
}

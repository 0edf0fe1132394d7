package main

import "testing"

func TestSeriesAreToldFromUpstreamsOwn(t *testing.T) {
	page := readMetrics(`# TYPE apiserver_request_total counter
apiserver_request_total{code="201",group="",resource="endpoints",scope="resource",subresource="",verb="POST"} 2
apiserver_request_total{code="200",group="",resource="pods",scope="resource",subresource="",verb="GET"} 0
apiserver_request_body_size_bytes_count{group="",resource="endpoints",verb="create"} 2
authentication_attempts{result="success"} 7
apiserver_longrunning_requests{resource="pods",verb="WATCH"} 0
`)
	own := labels{"verb": "POST", "group": "", "resource": "endpoints", "subresource": ""}
	for name, want := range map[string]bool{"apiserver_request_total": true, "apiserver_request_body_size_bytes_count": true, "authentication_attempts": false, "apiserver_longrunning_requests": false} {
		if len(page[name]) != 1 {
			t.Errorf("%s has the series %v", name, page[name])
			continue
		}
		if got := page[name][0].mayBe(own); got != want {
			t.Errorf("%s %s may be upstream's own: %v", name, page[name][0], got)
		}
	}
}

package remote

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// fakeAPI serves config maps of one namespace: create, get and watch, with streams that the test can cut.
type fakeAPI struct {
	t        *testing.T
	server   *httptest.Server
	mu       sync.Mutex
	revision int64
	oldest   int64 // watches from before it get 410
	events   []fakeEvent
	objects  map[string]*corev1.ConfigMap
	cut      chan struct{} // closed to break all streams
	moved    chan struct{} // closed when an event is there
	watches  []string      // the queries of the watches so far
}

type fakeEvent struct {
	kind   string
	object *corev1.ConfigMap
}

func newFakeAPI(t *testing.T) (*fakeAPI, *Client) {
	t.Helper()
	f := &fakeAPI{t: t, revision: 10, objects: map[string]*corev1.ConfigMap{}, cut: make(chan struct{}), moved: make(chan struct{})}
	f.server = httptest.NewUnstartedServer(f)
	f.server.EnableHTTP2 = true
	f.server.StartTLS()
	t.Cleanup(func() { f.breakStreams(); f.server.Close() })
	c, err := New(Config{Servers: []string{f.server.URL}, RootCAs: f.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}

func (f *fakeAPI) put(name, value string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := "ADDED"
	if _, ok := f.objects[name]; ok {
		kind = "MODIFIED"
	}
	f.revision++
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: strconv.FormatInt(f.revision, 10)}, Data: map[string]string{"v": value}}
	f.objects[name] = cm
	f.emit(kind, cm)
	return f.revision
}

func (f *fakeAPI) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	cm := f.objects[name].DeepCopy()
	cm.ResourceVersion = strconv.FormatInt(f.revision, 10)
	delete(f.objects, name)
	f.emit("DELETED", cm)
}

func (f *fakeAPI) emit(kind string, cm *corev1.ConfigMap) {
	f.events = append(f.events, fakeEvent{kind, cm})
	close(f.moved)
	f.moved = make(chan struct{})
}

// forget makes resuming impossible.
func (f *fakeAPI) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.oldest = f.revision
}

// asked returns the queries of the watches so far.
func (f *fakeAPI) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.watches)
}

func (f *fakeAPI) breakStreams() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.cut)
	f.cut = make(chan struct{})
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Query().Get("watch") == "true":
		f.watch(w, r)
	case r.Method == http.MethodPost:
		f.create(w, r)
	case strings.HasSuffix(r.URL.Path, "/busy"):
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		f.get(w, r)
	}
}

func (f *fakeAPI) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	cm, ok := f.objects[name]
	if !ok {
		status(w, http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("configmaps %q not found", name))
		return
	}
	f.reply(w, cm)
}

func (f *fakeAPI) create(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	obj, err := decode(r.Header.Get("Content-Type"), data)
	if err != nil {
		status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	cm := obj.(*corev1.ConfigMap)
	f.put(cm.Name, cm.Data["v"])
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reply(w, f.objects[cm.Name])
}

func (f *fakeAPI) reply(w http.ResponseWriter, obj runtime.Object) {
	data, contentType, err := encode(obj)
	if err != nil {
		f.t.Error(err)
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(data)
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message})
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	f.mu.Lock()
	f.watches = append(f.watches, r.URL.RawQuery)
	from, _ := strconv.ParseInt(query.Get("resourceVersion"), 10, 64)
	if query.Get("sendInitialEvents") == "" && from < f.oldest {
		f.mu.Unlock()
		status(w, http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
		return
	}
	w.Header().Set("Content-Type", protobufType+";stream=watch")
	if query.Get("sendInitialEvents") == "true" {
		for _, cm := range f.objects {
			f.frame(w, "ADDED", cm)
		}
		f.frame(w, "BOOKMARK", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: strconv.FormatInt(f.revision, 10), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}})
		from = f.revision
	}
	cut := f.cut
	f.mu.Unlock()
	for {
		f.mu.Lock()
		for _, ev := range f.events {
			if rev := revisionOf(ev.object); rev > from {
				f.frame(w, ev.kind, ev.object)
				from = rev
			}
		}
		moved := f.moved
		f.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		case <-moved:
		}
	}
}

func (f *fakeAPI) frame(w io.Writer, kind string, obj runtime.Object) {
	data, _, err := encode(obj)
	if err != nil {
		f.t.Error(err)
	}
	ev := metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: data}}
	frame, err := ev.Marshal()
	if err != nil {
		f.t.Error(err)
	}
	_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

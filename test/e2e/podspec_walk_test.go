package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestEveryFieldOfAPodHasItsEffect walks all fields of PodSpec. The effect of each is seen here, by programs in containers and by servers
// that the kubelet calls, or by another test that is named, or there's a reason why none can be seen.
func TestEveryFieldOfAPodHasItsEffect(t *testing.T) {
	if rival != nil {
		t.Skip("it's the built-in runtime whose containers are looked at")
	}
	w := &walk{T: t, seen: map[string]bool{}}
	w.observe()
	fields := map[string]bool{}
	walkFields(reflect.TypeFor[corev1.PodSpec](), "", fields)
	elsewhere, reasons := rules(t, seenElsewhere), rules(t, noEffect)
	tests := testsOfTree(t)
	for path := range fields {
		test, reason := elsewhere.find(path), reasons.find(path)
		switch {
		case w.seen[path]:
		case test == "" && reason == "":
			t.Errorf("%s: nothing tells its effect", path)
		case test != "" && !tests[test]:
			t.Errorf("%s: there is no test %s", path, test)
		}
	}
	for path := range w.seen {
		if !fields[path] {
			t.Errorf("%s was seen, but is no field of PodSpec", path)
		}
	}
	for _, table := range []*ruleSet{elsewhere, reasons} {
		for _, pattern := range table.unused(fields) {
			t.Errorf("%s: the table tells of it, but PodSpec has no such field", pattern)
		}
	}
	t.Logf("%d fields, %d seen here", len(fields), len(w.seen))
}

// walkFields notes the JSON paths of a type's fields, down to those that hold one value.
func walkFields(t reflect.Type, path string, found map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer:
		walkFields(t.Elem(), path, found)
		return
	case reflect.Slice:
		walkFields(t.Elem(), path+"[]", found)
		return
	case reflect.Map:
		walkFields(t.Elem(), path+"{}", found)
		return
	}
	single := []reflect.Type{reflect.TypeFor[resource.Quantity](), reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.FieldsV1]()}
	if t.Kind() != reflect.Struct || slices.Contains(single, t) {
		found[path] = true
		return
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		walkFields(t.Field(i).Type, strings.TrimPrefix(strings.TrimSuffix(path+"."+name, "."), "."), found)
	}
}

// ruleSet is a table from patterns to tests or reasons: "*[]" stands for the three kinds of containers, a pattern that ends with "*" for all that
// begins so. The longest that fits counts.
type ruleSet struct{ of map[string]string }

// rules reads a table: a line that isn't indented is what applies to the patterns in the indented lines below it.
func rules(t *testing.T, table string) *ruleSet {
	t.Helper()
	r, head := &ruleSet{map[string]string{}}, ""
	for line := range strings.Lines(table) {
		text := strings.TrimSpace(line)
		if text == "" {
			continue
		}
		if !strings.HasPrefix(line, "\t") {
			head = text
			continue
		}
		for _, pattern := range strings.Fields(text) {
			if r.of[pattern] != "" {
				t.Errorf("%s stands in the table twice", pattern)
			}
			r.of[pattern] = head
		}
	}
	return r
}

func fits(pattern, path string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*[]"); ok {
		kind, below, _ := strings.Cut(path, "[]")
		if kind != "containers" && kind != "initContainers" && kind != "ephemeralContainers" {
			return false
		}
		pattern, path = rest, below
	}
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, start)
	}
	return pattern == path
}

func (r *ruleSet) find(path string) string {
	best := ""
	for pattern := range r.of {
		if len(pattern) > len(best) && fits(pattern, path) {
			best = pattern
		}
	}
	return r.of[best]
}

func (r *ruleSet) unused(fields map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(r.of)), func(pattern string) bool {
		for path := range fields {
			if fits(pattern, path) {
				return true
			}
		}
		return false
	})
}

// testsOfTree are the test functions of the module, by folder and name: "internal/dns.TestServer".
func testsOfTree(t *testing.T) map[string]bool {
	t.Helper()
	const root = "../.."
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "out" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[folder+"."+f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

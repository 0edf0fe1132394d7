// Package architecture holds the layout of docs/architecture.md against the code.
package architecture

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "clipper.dev/clipper/"

// layers lists the packages below internal/ from the top down: a package may import what stands in a line below its own, and
// nothing else of internal/ but itself and its subpackages' shared parts. Packages in one line don't know one another.
var layers = [][]string{
	{"cli"},
	{"cluster"},
	{"apiserver", "allocation"},
	{"admission/plugins", "admission/policy", "admission/webhook"},
	{"admission/match"},
	{"authz"},
	{"authn"},
	{"scheduler", "controller", "kubelet", "proxy", "dns"},
	{"runtime"},
	{"hook", "quota"},
	{"client", "network", "keeper"},
	{"admission"},
	{"api", "nft", "netlab"},
	{"pki", "expression", "reviewer"},
	{"store", "demo", "h2", "localpath"},
	{"reload", "durable", "exposition"},
}

// unit is the entry of layers that a package belongs to: its folder below internal/, or the two-part entry that names it.
func unit(path string) string {
	parts := strings.SplitN(filepath.ToSlash(path), "/", 3)
	if len(parts) > 1 && layerOf(parts[0]+"/"+parts[1]) >= 0 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func layerOf(pkg string) int {
	for i, line := range layers {
		for _, p := range line {
			if p == pkg {
				return i
			}
		}
	}
	return -1
}

// exceptions are single imports upwards or sideways, each with its reason.
var exceptions = map[string]string{}

func TestImportsRunDownwards(t *testing.T) {
	root := filepath.Join("..", "..", "internal")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		from := unit(rel)
		if layerOf(from) < 0 {
			if !seen[from] {
				t.Errorf("internal/%s is in no layer: give it a line in this test and in docs/architecture.md", from)
			}
			seen[from] = true
			return nil
		}
		return checkFile(t, path, from)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, path, from string) error {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if forbidden(name) {
			t.Errorf("%s imports %s, which the product must not link", path, name)
		}
		rest, ours := strings.CutPrefix(name, module+"internal/")
		if !ours {
			continue
		}
		to := unit(rest)
		if to != from && layerOf(to) <= layerOf(from) && exceptions[from+" → "+rest] == "" {
			t.Errorf("%s: %s imports %s, which stands beside or above it", path, from, rest)
		}
	}
	return nil
}

// forbidden names what is Clipper's own to write.
func forbidden(name string) bool {
	for _, p := range []string{"k8s.io/kubernetes/", "k8s.io/apiserver/pkg/server", "k8s.io/apiserver/pkg/registry", "k8s.io/apiserver/pkg/storage/"} {
		if strings.HasPrefix(name+"/", p) {
			return true
		}
	}
	return false
}

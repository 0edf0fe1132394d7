package controller

import (
	"context"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"clipper.dev/clipper/internal/client"
)

// Graph tells which controller reads and writes what.
type Graph []GraphNode

// GraphNode is one controller of a Graph. Resources are named "group/resource", those of the core group "resource".
type GraphNode struct {
	Controller    string
	Triggers      []string // read, and changes are acted upon
	Reads         []string // read only
	Writes        []string
	SelfTriggered bool // has a Start function: a timer or a probe
}

// Print writes the graph, one controller a paragraph.
func (g Graph) Print(w io.Writer) error {
	for _, n := range g {
		if _, err := fmt.Fprintf(w, "%s\n", n.Controller); err != nil {
			return err
		}
		for _, line := range []struct {
			name  string
			kinds []string
		}{{"on", n.Triggers}, {"reads", n.Reads}, {"writes", n.Writes}} {
			if len(line.kinds) == 0 {
				continue
			}
			if _, err := fmt.Fprintf(w, "  %-6s %s\n", line.name, strings.Join(line.kinds, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

func nodeOf(c Controller) GraphNode {
	n := GraphNode{Controller: c.Name, Writes: c.Outputs, SelfTriggered: c.Start != nil}
	for _, in := range c.Inputs {
		name := "?"
		if v, ok := in.View.(namedView); ok {
			name = resourceName(v.gvr)
		}
		if in.Keys == nil {
			n.Reads = append(n.Reads, name)
			continue
		}
		n.Triggers = append(n.Triggers, name)
	}
	return n
}

func resourceName(gvr schema.GroupVersionResource) string {
	if gvr.Group == "" {
		return gvr.Resource
	}
	return gvr.Group + "/" + gvr.Resource
}

// naming is a client whose views know what they hold, for the graph.
type naming struct {
	client.Client
}

func (n naming) View(ctx context.Context, gvr schema.GroupVersionResource, sel client.Selection) (client.View, error) {
	v, err := n.Client.View(ctx, gvr, sel)
	if err != nil {
		return nil, err
	}
	return namedView{v, gvr}, nil
}

type namedView struct {
	client.View
	gvr schema.GroupVersionResource
}

// Item implements what client.Lookup looks for.
func (v namedView) Item(namespace, name string) (client.Item, bool) {
	return client.Lookup(v.View, namespace, name)
}

package main

import (
	"context"
	"fmt"
	"slices"
)

// group is some rows of the table that are measured together; a run can ask for it by any of its names.
type group struct {
	names   []string
	measure func(context.Context, options, *side, *results) error
}

// stage is a state of both sides in which some groups are measured.
type stage struct {
	sides  []beginning
	groups []group
}

type beginning struct {
	name  string
	begin func(context.Context, options) (*side, error)
}

// stages are a whole cluster, one with a node of its own, and a control plane alone.
var stages = []stage{
	{
		sides: []beginning{{clipperSide, startClipper}, {upstreamSide, startUpstreamCluster}},
		groups: []group{
			{[]string{"start"}, measureStart},
			{[]string{"answer"}, measureAnswer},
			{[]string{"idle"}, measureIdle},
			{[]string{"pod"}, measurePod},
			{[]string{"hundred", "memory-per-pod", "delete"}, measureHundred},
		},
	},
	{
		sides:  []beginning{{clipperSide, startClipperNodes}, {upstreamSide, startUpstreamCluster}},
		groups: []group{{[]string{"agent"}, measureAgent}},
	},
	{
		sides: []beginning{{clipperSide, startClipperServer}, {upstreamSide, startUpstream}},
		groups: []group{
			{[]string{"create", "get", "update"}, measureObjects},
			{[]string{"list"}, measureAllLists},
			{[]string{"watch"}, withClient(true, measureWatch)},
			{[]string{"memory"}, measureMemory},
			{[]string{"growth"}, withClient(true, measureGrowth)},
			{[]string{"return"}, withClient(true, measureReturned)},
			{[]string{"scheduler"}, withClient(true, measureScheduling)},
			{[]string{"stored"}, withClient(true, measureStored)},
		},
	},
}

func groupNames() []string {
	var names []string
	for _, s := range stages {
		for _, g := range s.groups {
			names = append(names, g.names...)
		}
	}
	return append(names, "floor")
}

func checkRows(rows []string) error {
	for _, r := range rows {
		if !slices.Contains(groupNames(), r) {
			return fmt.Errorf("-rows %s: there are %v", r, groupNames())
		}
	}
	return nil
}

func wanted(rows []string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(rows, n) })
}

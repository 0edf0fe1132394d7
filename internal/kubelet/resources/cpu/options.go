package cpu

import (
	"errors"
	"fmt"
	"strconv"

	"clipper.dev/clipper/internal/kubelet/resources/machine"
	"clipper.dev/clipper/internal/kubelet/resources/topology"
)

// Names of options of the policy static.
const (
	optionFullCores   = "full-pcpus-only"
	optionDistribute  = "distribute-cpus-across-numa"
	optionAlignSocket = "align-by-socket"
	optionSpreadCores = "distribute-cpus-across-cores"
	optionStrict      = "strict-cpu-reservation"
	optionAlignUncore = "prefer-align-cpus-by-uncorecache"
)

type options struct {
	fullCores, distribute, alignSocket, spreadCores, strict, alignUncore bool
}

// parseOptions reads options.
func parseOptions(given map[string]string) (*options, error) {
	o := &options{}
	fields := map[string]*bool{
		optionFullCores: &o.fullCores, optionDistribute: &o.distribute, optionAlignSocket: &o.alignSocket,
		optionSpreadCores: &o.spreadCores, optionStrict: &o.strict, optionAlignUncore: &o.alignUncore,
	}
	for name, value := range given {
		field := fields[name]
		if field == nil {
			return nil, fmt.Errorf("unknown CPU Manager Policy option: %q", name)
		}
		var err error
		if *field, err = strconv.ParseBool(value); err != nil {
			return nil, fmt.Errorf("bad value for option %q: %w", name, err)
		}
	}
	for _, pair := range []struct {
		both bool
		a, b string
	}{
		{o.fullCores && o.spreadCores, optionFullCores, optionSpreadCores},
		{o.distribute && o.spreadCores, optionDistribute, optionSpreadCores},
		{o.alignUncore && o.spreadCores, optionAlignUncore, optionSpreadCores},
		{o.alignUncore && o.distribute, optionAlignUncore, optionDistribute},
	} {
		if pair.both {
			return nil, fmt.Errorf("static policy options %s and %s can not be used at the same time", pair.a, pair.b)
		}
	}
	return o, nil
}

// check compares the options with the machine and the topology manager's policy.
func (o *options) check(topo *machine.Topology, policy string) error {
	if !o.alignSocket {
		return nil
	}
	if policy == topology.PolicySingleNUMANode {
		return fmt.Errorf("Topolgy manager %s policy is incompatible with CPUManager %s policy option", policy, optionAlignSocket) //nolint:staticcheck // upstream's text
	}
	if topo.Count(machine.Socket) > topo.Count(machine.NUMA) {
		return errors.New("Align by socket is not compatible with hardware where number of sockets are more than number of NUMA") //nolint:staticcheck // upstream's text
	}
	return nil
}

package csi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/version"
)

// callTimeout bounds one call of a driver.
const callTimeout = 2 * time.Minute

// driver is one that has registered.
type driver struct {
	name     string
	endpoint string
	version  *version.Version
	conn     *grpc.ClientConn
	node     csipb.NodeClient
	can      map[csipb.NodeServiceCapability_RPC_Type]bool
}

func dial(ctx context.Context, name, endpoint string, v *version.Version, m *Metrics) (*driver, error) {
	conn, err := grpc.NewClient("unix://"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(m.of(name)))
	if err != nil {
		return nil, fmt.Errorf("connect to CSI driver %s: %w", name, err)
	}
	d := &driver{name: name, endpoint: endpoint, version: v, conn: conn, node: csipb.NewNodeClient(conn), can: map[csipb.NodeServiceCapability_RPC_Type]bool{}}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.node.NodeGetCapabilities(ctx, &csipb.NodeGetCapabilitiesRequest{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask CSI driver %s what it can do: %w", name, err), conn.Close())
	}
	for _, c := range resp.GetCapabilities() {
		d.can[c.GetRpc().GetType()] = true
	}
	return d, nil
}

func (d *driver) stages() bool  { return d.can[csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME] }
func (d *driver) expands() bool { return d.can[csipb.NodeServiceCapability_RPC_EXPAND_VOLUME] }
func (d *driver) groups() bool  { return d.can[csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP] }

// Validate implements plugins.Handler.
func (p *Plugin) Validate(name, endpoint string, versions []string) error {
	_, err := p.highest("ValidatePlugin", name, endpoint, versions)
	if err != nil {
		return fmt.Errorf("validation failed for CSI Driver %s at endpoint %s: %w", name, endpoint, err)
	}
	return nil
}

// highest returns the newest version of CSI that both sides speak.
func (p *Plugin) highest(call, name, endpoint string, versions []string) (*version.Version, error) {
	if len(versions) == 0 {
		return nil, fmt.Errorf("kubernetes.io/csi: %s for CSI driver %q failed. Plugin returned an empty list for supported versions", call, name)
	}
	v, err := version.HighestSupportedVersion(versions)
	if err != nil {
		return nil, fmt.Errorf("kubernetes.io/csi: %s for CSI driver %q failed. None of the versions specified %q are supported. err=%w", call, name, versions, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.drivers[name]; have != nil && have.endpoint != endpoint && !have.version.LessThan(v) {
		return nil, fmt.Errorf("kubernetes.io/csi: %s for CSI driver %q failed. Another driver with the same name is already registered with a higher supported version: %q", call, name, have.version)
	}
	return v, nil
}

// Register implements plugins.Handler.
func (p *Plugin) Register(ctx context.Context, name, endpoint string, versions []string) error {
	v, err := p.highest("RegisterPlugin", name, endpoint, versions)
	if err != nil {
		return err
	}
	d, err := dial(ctx, name, endpoint, v, p.cfg.Metrics)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := d.node.NodeGetInfo(call, &csipb.NodeGetInfoRequest{})
	if err == nil && info.GetNodeId() == "" {
		err = errors.New("the driver's node ID is empty")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("ask CSI driver %s about the node: %w", name, err), d.conn.Close())
	}
	if err := p.install(ctx, name, info); err != nil {
		return errors.Join(err, d.conn.Close())
	}
	p.mu.Lock()
	old := p.drivers[name]
	p.drivers[name] = d
	p.mu.Unlock()
	if old != nil {
		_ = old.conn.Close() // its calls are made anew
	}
	p.sweep(ctx, name)
	return nil
}

// Deregister implements plugins.Handler.
func (p *Plugin) Deregister(ctx context.Context, name, endpoint string) {
	p.mu.Lock()
	d := p.drivers[name]
	if d == nil || d.endpoint != endpoint {
		p.mu.Unlock()
		return // another has taken its place
	}
	delete(p.drivers, name)
	p.mu.Unlock()
	_ = d.conn.Close()
	if err := p.uninstall(ctx, name); err != nil && ctx.Err() == nil {
		p.cfg.Logger.Warn("CSI driver not taken off the node", "driver", name, "error", err)
	}
}

// find returns a driver that has registered.
func (p *Plugin) find(name string) (*driver, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.drivers[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
}

// sortedKeys lists the keys of a topology.
func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

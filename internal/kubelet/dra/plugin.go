package dra

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	drapb "k8s.io/kubelet/pkg/apis/dra/v1"
	drapbv1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"
)

// callTimeout bounds a call of a driver.
const callTimeout = 45 * time.Second

// plugin is the connection to a driver.
type plugin struct {
	driver, endpoint string
	conn             *grpc.ClientConn
	api              drapb.DRAPluginClient
	stop             context.CancelFunc
	connected        bool // with the manager's mu
}

// connect makes the connection and keeps it. Called with mu held.
func (m *Manager) connect(name, endpoint, service string) (*plugin, error) {
	conn, err := grpc.NewClient("unix:"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithChainUnaryInterceptor(m.metrics.interceptor(name)))
	if err != nil {
		return nil, err
	}
	p := &plugin{driver: name, endpoint: endpoint, conn: conn, api: drapb.NewDRAPluginClient(conn)}
	if service == drapbv1beta1.DRAPluginService {
		p.api = drapbv1beta1.V1Beta1ClientWrapper{DRAPluginClient: drapbv1beta1.NewDRAPluginClient(conn)}
	}
	ctx, cancel := context.WithCancel(m.ctx)
	p.stop = cancel
	m.wg.Go(func() {
		defer conn.Close()
		m.keepConnected(ctx, p)
	})
	m.wg.Go(func() { m.watchHealth(ctx, p) })
	return p, nil
}

func (p *plugin) close() { p.stop() }

// keepConnected follows the connection, and makes it anew when it is lost.
func (m *Manager) keepConnected(ctx context.Context, p *plugin) {
	for {
		s := p.conn.GetState()
		if s == connectivity.Idle {
			p.conn.Connect()
		}
		m.mu.Lock()
		p.connected = s == connectivity.Ready
		if d := m.drivers[p.driver]; d != nil && ctx.Err() == nil {
			m.judge(p.driver, d)
		}
		m.mu.Unlock()
		if !p.conn.WaitForStateChange(ctx, s) {
			return
		}
	}
}

func (p *plugin) prepare(ctx context.Context, in *drapb.NodePrepareResourcesRequest) (*drapb.NodePrepareResourcesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.api.NodePrepareResources(ctx, in)
}

func (p *plugin) unprepare(ctx context.Context, in *drapb.NodeUnprepareResourcesRequest) (*drapb.NodeUnprepareResourcesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return p.api.NodeUnprepareResources(ctx, in)
}

func (m *metrics) interceptor(driver string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		begun := time.Now()
		err := call(ctx, method, req, reply, conn, opts...)
		m.calls.WithLabelValues(driver, method, status.Code(err).String()).Observe(time.Since(begun).Seconds())
		return err
	}
}

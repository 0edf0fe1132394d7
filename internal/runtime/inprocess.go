package runtime

import (
	"context"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// inProcess is a connection to the runtime for the runtime's own process. Calls behave as those over the socket do: messages are
// copied in both directions, errors have their codes, and the end of a caller's context ends the callee's. But a call that is cut short
// returns only when the callee has: what it was making is there then, or taken away again, and nothing comes after a pod's removal.
type inProcess struct {
	server    any
	intercept grpc.UnaryServerInterceptor
	unary     map[string]call
	streams   map[string]grpc.StreamHandler

	ending context.Context // of all calls
	end    context.CancelFunc

	mu    sync.Mutex
	ended bool
	calls sync.WaitGroup
}

type call = func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error)

// newInProcess connects to a server of both services of the interface.
func newInProcess(server any, intercept grpc.UnaryServerInterceptor) *inProcess {
	c := &inProcess{server: server, intercept: intercept, unary: map[string]call{}, streams: map[string]grpc.StreamHandler{}}
	c.ending, c.end = context.WithCancel(context.Background())
	for _, service := range []*grpc.ServiceDesc{&runtimeapi.RuntimeService_ServiceDesc, &runtimeapi.ImageService_ServiceDesc} {
		for _, m := range service.Methods {
			c.unary["/"+service.ServiceName+"/"+m.MethodName] = m.Handler
		}
		for _, s := range service.Streams {
			c.streams["/"+service.ServiceName+"/"+s.StreamName] = s.Handler
		}
	}
	return c
}

// Conn is a connection to the runtime from within its process.
func (rt *Runtime) Conn() grpc.ClientConnInterface { return rt.local }

// begin lets a call begin, unless the runtime ends.
func (c *inProcess) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if ctx.Err() != nil {
		return nil, nil, status.FromContextError(ctx.Err()).Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, nil, status.Error(codes.Unavailable, "the container runtime has ended")
	}
	c.calls.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(c.ending, cancel)
	return ctx, func() { release(); cancel() }, nil
}

// refuse lets no further call begin.
func (c *inProcess) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// Invoke makes a call.
func (c *inProcess) Invoke(caller context.Context, method string, request, response any, _ ...grpc.CallOption) error {
	handler := c.unary[method]
	if handler == nil {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	ctx, end, err := c.begin(caller)
	if err != nil {
		return err
	}
	defer c.calls.Done()
	defer end()
	answer, err := handler(c.server, ctx, func(into any) error { return copyMessage(into, request) }, c.intercept)
	if err != nil {
		return err
	}
	return copyMessage(response, answer)
}

// copyMessage copies a message into an empty one.
func copyMessage(into, from any) error {
	target, ok := into.(proto.Message)
	source, sourceOK := from.(proto.Message)
	if !ok || !sourceOK || target.ProtoReflect().Descriptor() != source.ProtoReflect().Descriptor() {
		return status.Error(codes.Internal, fmt.Sprintf("%T cannot be taken for %T", from, into))
	}
	proto.Merge(target, source)
	return nil
}

// NewStream begins a call that is answered by a stream. The call is made when its one request is sent.
func (c *inProcess) NewStream(caller context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	handler := c.streams[method]
	if handler == nil {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	ctx, end, err := c.begin(caller)
	if err != nil {
		return nil, err
	}
	s := &inProcessStream{
		caller: caller, ctx: ctx, request: make(chan proto.Message, 1), responses: make(chan proto.Message), over: make(chan struct{}),
	}
	go func() {
		defer c.calls.Done()
		defer end()
		if s.err = handler(c.server, calleeStream{s}); s.err != nil {
			s.err = coded(s.err)
		}
		close(s.over)
	}()
	return s, nil
}

// inProcessStream is a stream of responses, as the caller has it.
type inProcessStream struct {
	caller, ctx context.Context
	request     chan proto.Message
	responses   chan proto.Message // copies
	over        chan struct{}      // closed when the callee has returned err
	err         error
}

func (s *inProcessStream) Context() context.Context     { return s.caller }
func (s *inProcessStream) Header() (metadata.MD, error) { return nil, nil }
func (s *inProcessStream) Trailer() metadata.MD         { return nil }
func (s *inProcessStream) CloseSend() error             { return nil }

// SendMsg sends the request.
func (s *inProcessStream) SendMsg(m any) error {
	select {
	case s.request <- proto.Clone(m.(proto.Message)):
		return nil
	default:
		return status.Error(codes.Internal, "a stream has one request")
	}
}

// RecvMsg waits for the next response. After the last it returns io.EOF.
func (s *inProcessStream) RecvMsg(m any) error {
	select {
	case response := <-s.responses:
		return copyMessage(m, response)
	case <-s.caller.Done():
		return status.FromContextError(s.caller.Err()).Err()
	case <-s.over:
		if s.err == nil {
			return io.EOF
		}
		return s.err
	}
}

// calleeStream is the stream as the callee has it.
type calleeStream struct{ s *inProcessStream }

func (c calleeStream) Context() context.Context     { return c.s.ctx }
func (c calleeStream) SetHeader(metadata.MD) error  { return nil }
func (c calleeStream) SendHeader(metadata.MD) error { return nil }
func (c calleeStream) SetTrailer(metadata.MD)       {}

func (c calleeStream) RecvMsg(m any) error {
	select {
	case request := <-c.s.request:
		return copyMessage(m, request)
	case <-c.s.ctx.Done():
		return status.FromContextError(c.s.ctx.Err()).Err()
	}
}

func (c calleeStream) SendMsg(m any) error {
	select {
	case c.s.responses <- proto.Clone(m.(proto.Message)):
		return nil
	case <-c.s.ctx.Done():
		return status.FromContextError(c.s.ctx.Err()).Err()
	}
}

# Clipper: Kubernetes in one binary. "make up" builds it and starts a cluster; "make test" tests it.

VERSION ?= v0.1.0
LDFLAGS  = -s -w -X clipper.dev/clipper/internal/cluster.Version=$(VERSION)
KEEPER   = cmd/clipper/keeper/clipper-keeper
DEMO     = internal/demo/image/demo.tar
OUT      = out

.PHONY: cgroup2 clients critest e2e-containerd e2e-docker idle samedatabase stress build up test unit lint conformance differential bench fuzz h2spec clean FORCE conformance-node

build: bin/clipper

# The keeper, and the demonstration image, are embedded: they come first. Go's build cache knows what is up to date.
bin/clipper: FORCE $(KEEPER) $(DEMO)
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o $@ ./cmd/clipper
	ln -sf clipper bin/kubectl

# libcontainer enters namespaces in C before Go's runtime starts.
$(KEEPER): FORCE
	CGO_ENABLED=1 go build -trimpath -ldflags "-s -w" -o $@ ./cmd/clipper-keeper

$(DEMO): FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/demo ./internal/demo/server
	go run ./internal/demo/pack bin/demo $@

up: build
	bin/clipper up

# With the same flag as the program, so that what both are made of is compiled once.
test: build
	go vet -trimpath ./...
	go test -trimpath -timeout 20m ./...

# Every fuzz target for a while: make fuzz [FUZZTIME=10m]
FUZZTIME ?= 1m
fuzz: build
	git grep -o '^func Fuzz[A-Za-z]*' -- '*_test.go' | sed 's|^\(.*\)/[^/]*:func |./\1 |' | while read package target; do \
		go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; done

lint:
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

# The end-to-end tests with the stock kubectl.
e2e-stock: build
	cd test/conformance && CGO_ENABLED=0 go build -ldflags "$(SUITE_LDFLAGS)" -o ../../$(OUT)/kubectl k8s.io/kubernetes/cmd/kubectl
	go test -count 1 -timeout 20m ./test/e2e -kubectl $(abspath $(OUT))/kubectl

# The end-to-end tests with the stock kubectl of other versions, and a program with client-go of the same.
CLIENTS = $(OUT)/clients
clients: build
	cd test/clients && CGO_ENABLED=0 go build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.13" -o ../../$(CLIENTS)/v1.34/ ./kubectl ./program
	cd test/clients && CGO_ENABLED=0 go build -modfile v1.37.mod -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2" -o ../../$(CLIENTS)/v1.37/ ./kubectl ./program
	for v in v1.34 v1.37; do \
		go test ./test/e2e -count 1 -timeout 40m -name clients -kubectl $(abspath $(CLIENTS))/$$v/kubectl -client-program $(abspath $(CLIENTS))/$$v/program || exit 1; done

# 10,000 connections that do nothing, and clients of every sort of slowness.
idle: build
	go test ./test/server -count 1 -v -timeout 20m -run 'TestIdle|TestSlow' -name idle -idle 10000

# 500 random pods start and stop while Clipper is killed at random: make stress [STRESS="-stress 2000 -stress-seed 7"]
STRESS ?= -stress 500
stress: build
	go test ./test/e2e -count 1 -v -timeout 60m -run 'TestStress$$' -name stress $(STRESS)

# The end-to-end tests with containerd in the built-in runtime's place. It needs Debian's runc and containernetworking-plugins.
CONTAINERD = github.com/containerd/containerd/v2/cmd
e2e-containerd: build
	GOBIN=$(abspath $(OUT))/containerd CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" $(CONTAINERD)/containerd@v2.4.2 $(CONTAINERD)/containerd-shim-runc-v2@v2.4.2 $(CONTAINERD)/ctr@v2.4.2
	go test ./test/e2e -count 1 -v -timeout 20m -name e2e-containerd -containerd $(abspath $(OUT))/containerd

# The same with a Docker engine behind cri-dockerd, both built from their modules. It needs Debian's archive, for Docker's client, and runc, socat and
# containernetworking-plugins. The engine's module has its requirements in files of other names.
DOCKER = $(abspath $(OUT))/docker
MODULE = go mod download -json $(1) | sed -n 's/.*"Dir": "\(.*\)",/\1/p'
e2e-docker: build
	rm -rf $(DOCKER) && mkdir -p $(DOCKER)
	GOBIN=$(DOCKER) CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" $(CONTAINERD)/containerd@v2.4.2 $(CONTAINERD)/containerd-shim-runc-v2@v2.4.2
	cp -r --no-preserve=mode "$$($(call MODULE,github.com/docker/docker@v28.5.2+incompatible))" $(DOCKER)/source
	cd $(DOCKER)/source && mv vendor.mod go.mod && mv vendor.sum go.sum && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "-s -w -X github.com/docker/docker/dockerversion.Version=28.5.2" -o ../dockerd ./cmd/dockerd
	rm -rf $(DOCKER)/source
	cd "$$($(call MODULE,github.com/Mirantis/cri-dockerd@v0.4.3))" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $(DOCKER)/cri-dockerd .
	cd $(DOCKER) && apt-get download docker.io && dpkg -x docker.io_*.deb . && mv usr/bin/docker . && rm -rf etc lib usr var *.deb
	go test ./test/e2e -count 1 -v -timeout 40m -name e2e-docker -docker $(DOCKER)

# The validation suite of cri-tools against the built-in runtime. It needs Debian's archive, for a busybox.
critest:
	rm -rf $(OUT)/critest && mkdir -p $(OUT)/critest
	suite=$$(go mod download -json sigs.k8s.io/cri-tools@v1.36.0 | sed -n 's/.*"Dir": "\(.*\)",/\1/p') && cd "$$suite" && \
		CGO_ENABLED=0 go test -c -trimpath -ldflags "-s -w" -o $(abspath $(OUT))/critest/critest ./cmd/critest
	cd $(OUT)/critest && apt-get download busybox && dpkg -x busybox_*.deb .
	CLIPPER_CRITEST=$(abspath $(OUT))/critest/critest CLIPPER_BUSYBOX=$(abspath $(OUT))/critest/bin/busybox \
		go test ./internal/runtime -run 'TestCritest$$' -count 1 -v -timeout 30m

# The tests that look at control groups, CRIU's and iSCSI's, in an emulated machine whose kernel has cgroup v2 alone. It needs qemu-system-x86_64 and Debian's archive.
CGROUP2 = $(OUT)/cgroup2
cgroup2: build
	mkdir -p $(CGROUP2)/programs
	CGO_ENABLED=0 go test -c -ldflags "-s -w" -o $(CGROUP2)/tests/ ./internal/kubelet/cgroups ./internal/kubelet/volumes/iscsi ./internal/runtime ./test/e2e
	CGO_ENABLED=0 go build -ldflags "-s -w" -o $(CGROUP2)/programs/ ./internal/runtime/testdata/probe ./internal/runtime/testdata/standin
	cp $(KEEPER) $(CGROUP2)/programs/keeper
	cp bin/clipper bin/demo $(CGROUP2)/programs/
	cp test/cgroup2/tests $(CGROUP2)/tests/list
	test/cgroup2/run $(CGROUP2)

# Upstream's conformance suite: make conformance [FOCUS=RE] [SKIP=RE] [PARALLEL=n]. It needs debootstrap.
PARALLEL ?= 8
SUITE_LDFLAGS = -s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36
conformance: build
	cd test/conformance && go build -o ../../$(OUT)/ginkgo github.com/onsi/ginkgo/v2/ginkgo
	cd test/conformance && go test -c -ldflags "$(SUITE_LDFLAGS)" -o ../../$(OUT)/e2e.test k8s.io/kubernetes/test/e2e
	cd test/conformance && go run ./images -out ../../$(OUT)/images
	cd test/conformance && go run ./run -clipper ../../bin/clipper -out ../../$(OUT)/conformance -images ../../$(OUT)/images \
		-suite ../../$(OUT)/e2e.test -ginkgo ../../$(OUT)/ginkgo -focus "$(FOCUS)" -skip "$(SKIP)" -parallel $(PARALLEL)

# Upstream's node suite, for the specs that this kind of machine can run: make conformance-node [FOCUS=RE] [SKIP=RE] [NODE_PARALLEL=n]. It needs debootstrap.
NODE_FOCUS = \[NodeConformance\]|Eviction|Device (Plugin|Manager)|(CPU|Memory|Topology) Manager|POD Resources API|PodPidsLimit
conformance-node: build
	cd test/conformance && go build -o ../../$(OUT)/ginkgo github.com/onsi/ginkgo/v2/ginkgo
	cd test/conformance && go test -c -ldflags "$(SUITE_LDFLAGS)" -o ../../$(OUT)/e2e_node.test k8s.io/kubernetes/test/e2e_node
	cd test/conformance && go run ./images -out ../../$(OUT)/images
	cd test/conformance && go run ./node/run -clipper ../../bin/clipper -out ../../$(OUT)/conformance-node -images ../../$(OUT)/images \
		-suite ../../$(OUT)/e2e_node.test -ginkgo ../../$(OUT)/ginkgo -parallel $(or $(NODE_PARALLEL),1) -focus "$(or $(FOCUS),$(NODE_FOCUS))" -skip "$(SKIP)"

# Clipper and kube-apiserver on one etcd, in turns and at once.
samedatabase: build
	cd test/conformance && CGO_ENABLED=0 go build -ldflags "$(SUITE_LDFLAGS)" -o ../../$(OUT)/bench/etcd go.etcd.io/etcd/server/v3
	cd test/conformance && CGO_ENABLED=0 go build -ldflags "$(SUITE_LDFLAGS)" -o ../../$(OUT)/bench/kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
	cd test/conformance && go test -count 1 ./samedatabase

# The same requests, made from the schemas, to Clipper and to kube-apiserver: make differential [DIFFERENTIAL="-kinds RE -seed n"].
differential: build
	cd test/differential && go build -o ../../$(OUT)/differential/differential .
	$(OUT)/differential/differential -clipper bin/clipper -upstream $(OUT)/bench -scratch $(OUT)/differential $(DIFFERENTIAL)

# Clipper beside upstream's own components, which are built in out/bench: make bench [BENCH="-clipper-only -rows pod,hundred"].
bench: build
	cd bench/compare && go build -o ../../$(OUT)/bench/compare . && exec ../../$(OUT)/bench/compare -clipper ../../bin/clipper -scratch ../../$(OUT)/bench -demo ../../$(DEMO) $(BENCH)

# The conformance tests of HTTP/2.
h2spec:
	GOBIN=$(CURDIR)/$(OUT) go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
	H2SPEC=$(CURDIR)/$(OUT)/h2spec go test -count 1 -run TestH2spec ./internal/h2

clean:
	rm -rf bin $(OUT) $(KEEPER) $(DEMO)

FORCE:

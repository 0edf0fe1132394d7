package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Options say what the certificates of a server are for.
type Options struct {
	ClusterName string   // "clipper"; part of the authority's name only when it's made
	Domain      string   // "cluster.local" when empty
	Names       []string // further DNS names by which this server is reached
	IPs         []net.IP // further addresses: the node's, the first of the service range
	Logger      *slog.Logger
}

// The names of the pairs, as kubeadm calls their files.
const (
	APIServer           = "apiserver"
	KubeletClient       = "apiserver-kubelet-client"
	FrontProxyClient    = "front-proxy-client"
	EtcdServer          = "etcd/server"
	EtcdPeer            = "etcd/peer"
	APIServerEtcdClient = "apiserver-etcd-client"
	Admin               = "admin"
	ControllerManager   = "controller-manager"
	Scheduler           = "scheduler"

	authorityFile           = "ca"
	frontProxyAuthorityFile = "front-proxy-ca"
	etcdAuthorityFile       = "etcd/ca"
	tokenKeyFile            = "sa"
)

// Keys are a cluster's keys and certificates, as one server holds them. Its methods may be called concurrently.
type Keys struct {
	dir  folder
	opts Options
	log  *slog.Logger
	now  func() time.Time

	authority, frontProxy, etcd atomic.Pointer[Authority]
	pairs                       map[string]*Pair // complete after Open
	tokenKey                    crypto.Signer
	verifyKeys                  []crypto.PublicKey
}

// Open reads the keys in a folder and makes those that are missing. Certificates that lack a name or address asked for,
// were signed by another authority, or are due for renewal are made anew.
func Open(dir string, opts Options) (*Keys, error) { return open(dir, opts, time.Now) }

func open(dir string, opts Options, now func() time.Time) (*Keys, error) {
	if opts.Domain == "" {
		opts.Domain = "cluster.local"
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	k := &Keys{dir: folder(dir), opts: opts, log: opts.Logger, now: now, pairs: map[string]*Pair{}}
	if err := k.openAuthorities(); err != nil {
		return nil, err
	}
	if err := k.openTokenKeys(); err != nil {
		return nil, err
	}
	for name, want := range k.wanted() {
		p := &Pair{name: name, want: want}
		if err := k.openPair(p); err != nil {
			return nil, err
		}
		k.pairs[name] = p
	}
	return k, nil
}

func (k *Keys) openAuthorities() error {
	for name, a := range map[string]struct {
		holder *atomic.Pointer[Authority]
		cn     string
	}{
		authorityFile:           {&k.authority, "kubernetes"},
		frontProxyAuthorityFile: {&k.frontProxy, "front-proxy-ca"},
		etcdAuthorityFile:       {&k.etcd, "etcd-ca"},
	} {
		found, err := k.openAuthority(name, a.cn)
		if err != nil {
			return fmt.Errorf("open authority %s: %w", name, err)
		}
		a.holder.Store(found)
	}
	return nil
}

func (k *Keys) openAuthority(name, commonName string) (*Authority, error) {
	cert, err := k.dir.readPair(name)
	if errors.Is(err, fs.ErrNotExist) {
		a, err := NewAuthority(commonName, k.now())
		if err != nil {
			return nil, err
		}
		return a, k.dir.writePair(name, a.PEM(), a.Key)
	}
	if err != nil {
		return nil, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s is missing: this server cannot sign certificates", k.dir.path(name+".key"))
	}
	a := &Authority{Cert: cert.Leaf, Key: key}
	if !due(a.Cert, k.now()) {
		return a, nil
	}
	if a, err = a.renewed(k.now()); err != nil {
		return nil, err
	}
	return a, k.dir.writePair(name, a.PEM(), a.Key)
}

// openTokenKeys reads sa.key, or makes it; sa.pub may hold several keys, all of which verify.
func (k *Keys) openTokenKeys() error {
	key, err := k.dir.readKey(tokenKeyFile + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = NewKey(); err != nil {
			return err
		}
		data, encodeErr := KeyPEM(key)
		if encodeErr != nil {
			return encodeErr
		}
		err = k.dir.write(tokenKeyFile+".key", data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("open the service account key: %w", err)
	}
	k.tokenKey = key
	k.verifyKeys, err = k.openPublicKeys(key.Public())
	return err
}

// wanted lists the certificates of a server.
func (k *Keys) wanted() map[string]wanted {
	svc := "kubernetes.default.svc"
	names := slices.Concat([]string{"kubernetes", "kubernetes.default", svc, svc + "." + k.opts.Domain, "localhost"}, k.opts.Names)
	ips := slices.Concat([]net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}, k.opts.IPs)
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	local := slices.Concat([]string{"localhost"}, k.opts.Names)
	return map[string]wanted{
		APIServer:           {&k.authority, Subject{CommonName: "kube-apiserver", Names: names, IPs: ips, Usages: server}},
		KubeletClient:       {&k.authority, Subject{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Usages: client}},
		Admin:               {&k.authority, Subject{CommonName: "kubernetes-admin", Organizations: []string{"system:masters"}, Usages: client}},
		ControllerManager:   {&k.authority, Subject{CommonName: "system:kube-controller-manager", Usages: client}},
		Scheduler:           {&k.authority, Subject{CommonName: "system:kube-scheduler", Usages: client}},
		FrontProxyClient:    {&k.frontProxy, Subject{CommonName: "front-proxy-client", Usages: client}},
		EtcdServer:          {&k.etcd, Subject{CommonName: "kube-etcd", Names: local, IPs: ips, Usages: both}},
		EtcdPeer:            {&k.etcd, Subject{CommonName: "kube-etcd-peer", Names: local, IPs: ips, Usages: both}},
		APIServerEtcdClient: {&k.etcd, Subject{CommonName: "kube-apiserver-etcd-client", Usages: client}},
	}
}

// Authority returns the cluster's authority: it signs servers and clients.
func (k *Keys) Authority() *Authority { return k.authority.Load() }

// FrontProxyAuthority returns the authority that signs authenticating proxies.
func (k *Keys) FrontProxyAuthority() *Authority { return k.frontProxy.Load() }

// EtcdAuthority returns the authority of etcd's members and clients.
func (k *Keys) EtcdAuthority() *Authority { return k.etcd.Load() }

// TokenKey signs service account tokens.
func (k *Keys) TokenKey() crypto.Signer { return k.tokenKey }

// TokenVerifyKeys verify service account tokens; the signing key's is the first.
func (k *Keys) TokenVerifyKeys() []crypto.PublicKey { return k.verifyKeys }

// Pair returns a certificate of this server by its file's name: one of the constants.
func (k *Keys) Pair(name string) *Pair {
	p, ok := k.pairs[name]
	if !ok {
		panic("pki: there is no certificate named " + strings.TrimSpace(name))
	}
	return p
}

// IssueNode signs a kubelet's client and serving certificates, for a node that lives in this server's process.
func (k *Keys) IssueNode(name string, names []string, ips []net.IP) (client, serving *Pair, err error) {
	org := []string{"system:nodes"}
	out := []*Pair{
		{name: "kubelet/" + name + "-client", want: wanted{&k.authority, Subject{CommonName: "system:node:" + name, Organizations: org, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}}},
		{name: "kubelet/" + name + "-serving", want: wanted{&k.authority, Subject{CommonName: "system:node:" + name, Organizations: org, Names: names, IPs: ips, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}}},
	}
	for _, p := range out {
		if err := k.openPair(p); err != nil {
			return nil, nil, err
		}
	}
	return out[0], out[1], nil
}

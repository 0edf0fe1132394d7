package pki

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// A Kubeconfig is the one cluster, user and context of a kubeconfig file.
type Kubeconfig struct {
	Cluster   string // "clipper"; names the cluster and the context
	Server    string // "https://127.0.0.1:6443"
	CA        []byte // PEM
	User      string // names the user: "kubernetes-admin"
	Cert, Key []byte // PEM
	// CertFile and KeyFile, when Cert is empty, name files that may be renewed in place.
	CertFile, KeyFile string
	Token             string
}

// YAML returns the file's content.
func (c Kubeconfig) YAML() ([]byte, error) {
	user := map[string]any{}
	set := func(field, value string) {
		if value != "" {
			user[field] = value
		}
	}
	set("client-certificate-data", base64.StdEncoding.EncodeToString(c.Cert))
	set("client-key-data", base64.StdEncoding.EncodeToString(c.Key))
	set("client-certificate", c.CertFile)
	set("client-key", c.KeyFile)
	set("token", c.Token)
	context := c.User + "@" + c.Cluster
	type m = map[string]any
	data, err := json.Marshal(m{
		"apiVersion":      "v1",
		"kind":            "Config",
		"preferences":     m{},
		"clusters":        []m{{"name": c.Cluster, "cluster": m{"server": c.Server, "certificate-authority-data": base64.StdEncoding.EncodeToString(c.CA)}}},
		"users":           []m{{"name": c.User, "user": user}},
		"contexts":        []m{{"name": context, "context": m{"cluster": c.Cluster, "user": c.User}}},
		"current-context": context,
	})
	if err != nil {
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return yaml.JSONToYAML(data)
}

// Write writes the file, readable by its owner alone.
func (c Kubeconfig) Write(path string) error {
	data, err := c.YAML()
	if err != nil {
		return err
	}
	return WriteFile(path, data, 0o600)
}

// AdminKubeconfig returns an administrator's kubeconfig.
func (k *Keys) AdminKubeconfig(server string) (Kubeconfig, error) {
	cert, key, err := k.Pair(Admin).PEM()
	return Kubeconfig{
		Cluster: k.opts.ClusterName,
		Server:  server,
		CA:      k.Authority().PEM(),
		User:    "kubernetes-admin",
		Cert:    cert,
		Key:     key,
	}, err
}

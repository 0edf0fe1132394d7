// Package remote is client.Client over HTTPS, for code that runs outside the server's process: the kubelet, the proxy and
// DNS of a machine that joined.
//
//	c, err := remote.New(remote.Config{Servers: []string{"https://10.0.0.1:6443"}, RootCAs: pool, Certificate: reload, Logger: log})
//	pods, err := client.Pods.View(ctx, c, client.Selection{Field: "spec.nodeName", Value: node})
//
// Requests go out in protobuf for the kinds of k8s.io/api and in JSON for all others. A View is one watch stream that begins with the
// objects that exist (sendInitialEvents); when it breaks it resumes where it was, and when the server no longer knows that revision it
// starts over and reports only what differs. A view keeps the decoded objects of its selection and nothing else.
package remote

// Package plugins finds the node's plugins by the sockets that they put into the kubelet's registry folder.
//
//	r := plugins.New(plugins.Config{Dir: root + "/plugins_registry", Handlers: map[string]plugins.Handler{"CSIPlugin": csi}, Logger: logger})
//	err := r.Run(ctx, changes)
//
// A plugin's life: its socket appears; it is asked who it is (GetInfo of pluginregistration v1); the Handler of its type validates and registers
// it; it is told the outcome. When the socket goes, or another one takes its place, the handler deregisters it. Nothing is recorded: after a
// restart of the kubelet the sockets that are there are found anew.
package plugins

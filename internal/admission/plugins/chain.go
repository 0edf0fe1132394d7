package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authz/rbac"
	"clipper.dev/clipper/internal/client"
	"clipper.dev/clipper/internal/quota"
)

// Options choose the plugins.
type Options struct {
	// Authorizer is asked by plugins that protect signers and audiences, and by the check of role escalation.
	Authorizer authorizer.Authorizer
	// RBAC knows users' rules, for the check of role escalation; nil leaves that out (no RBAC).
	RBAC *rbac.Authorizer
	// Enable and Disable name plugins, as upstream's flags do.
	Enable, Disable []string
	// Configurations are those of the plugins that take one, by the plugins' names: documents of upstream's kinds, in YAML or JSON.
	Configurations map[string][]byte
	// NotReadySeconds and UnreachableSeconds are for how long pods stay by default on a node that is not ready or cannot be reached; nil is five
	// minutes.
	NotReadySeconds, UnreachableSeconds *int64
	// Ledger is shared with the controller that counts what quotas limit; nil is one of its own.
	Ledger *quota.Ledger
	// Metrics is where plugins register theirs; nil keeps them to themselves.
	Metrics prometheus.Registerer
	// Dynamic are the plugins of policies and webhooks: they come after the others and before quota.
	Dynamic []admission.Plugin
}

// offByDefault are plugins that only Enable adds.
var offByDefault = []string{
	"NamespaceAutoProvision", "NamespaceExists", "LimitPodHardAntiAffinityTopology", "AlwaysPullImages", "EventRateLimit", "ExtendedResourceToleration",
	"OwnerReferencesPermissionEnforcement", "DenyServiceExternalIPs",
}

// onByDefault are the others that Enable and Disable may name.
var onByDefault = []string{
	"NamespaceLifecycle", "LimitRanger", "ServiceAccount", "NodeRestriction", "TaintNodesByCondition", "PodSecurity", "Priority", "DefaultTolerationSeconds",
	"DefaultStorageClass", "StorageObjectInUseProtection", "PersistentVolumeClaimResize", "RuntimeClass", "CertificateApproval", "CertificateSigning",
	"CertificateSubjectRestriction", "DefaultIngressClass", "PodTopologyLabels", "PodResizeValidator", "MutatingAdmissionPolicy",
	"MutatingAdmissionWebhook", "ValidatingAdmissionPolicy", "ValidatingAdmissionWebhook", "ResourceQuota",
}

// configurable are those that take a configuration.
var configurable = []string{"EventRateLimit", "PodSecurity"}

// Validate refuses what Default can't do, in upstream's words where upstream refuses it too.
func (o Options) Validate() error {
	var errs []error
	for flag, names := range map[string][]string{"enable-admission-plugins": o.Enable, "disable-admission-plugins": o.Disable} {
		for _, name := range names {
			if !slices.Contains(onByDefault, name) && !slices.Contains(offByDefault, name) {
				errs = append(errs, fmt.Errorf("%s plugin %q is unknown", flag, name))
			}
			if flag == "enable-admission-plugins" && slices.Contains(o.Disable, name) {
				errs = append(errs, fmt.Errorf("[%s] in enable-admission-plugins and disable-admission-plugins overlapped", name))
			}
		}
	}
	for name := range o.Configurations {
		if !slices.Contains(configurable, name) {
			errs = append(errs, fmt.Errorf("admission plugin %q takes no configuration here", name))
		}
	}
	if slices.Contains(o.Enable, "EventRateLimit") && o.Configurations["EventRateLimit"] == nil {
		errs = append(errs, errors.New("admission plugin EventRateLimit needs a configuration, in --admission-control-config-file"))
	}
	return errors.Join(errs...)
}

// views are the live sets that plugins judge by.
type views struct {
	namespaces      client.TypedView[*corev1.Namespace]
	accounts        client.TypedView[*corev1.ServiceAccount]
	pods            client.TypedView[*corev1.Pod]
	nodes           client.TypedView[*corev1.Node]
	claims          client.TypedView[*corev1.PersistentVolumeClaim]
	volumes         client.TypedView[*corev1.PersistentVolume]
	limits          client.TypedView[*corev1.LimitRange]
	quotas          client.TypedView[*corev1.ResourceQuota]
	priorityClasses client.TypedView[*schedulingv1.PriorityClass]
	storageClasses  client.TypedView[*storagev1.StorageClass]
	drivers         client.TypedView[*storagev1.CSIDriver]
	runtimeClasses  client.TypedView[*nodev1.RuntimeClass]
	ingressClasses  client.TypedView[*networkingv1.IngressClass]
}

func openViews(ctx context.Context, c client.Client) (*views, error) {
	v, served := &views{}, c.Kinds(ctx, nil)
	core, storage := corev1.SchemeGroupVersion, storagev1.SchemeGroupVersion
	return v, errors.Join(
		open(ctx, c, served, core.WithResource("namespaces"), &v.namespaces),
		open(ctx, c, served, core.WithResource("serviceaccounts"), &v.accounts),
		open(ctx, c, served, core.WithResource("pods"), &v.pods),
		open(ctx, c, served, core.WithResource("nodes"), &v.nodes),
		open(ctx, c, served, core.WithResource("persistentvolumeclaims"), &v.claims),
		open(ctx, c, served, core.WithResource("persistentvolumes"), &v.volumes),
		open(ctx, c, served, core.WithResource("limitranges"), &v.limits),
		open(ctx, c, served, core.WithResource("resourcequotas"), &v.quotas),
		open(ctx, c, served, schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), &v.priorityClasses),
		open(ctx, c, served, storage.WithResource("storageclasses"), &v.storageClasses),
		open(ctx, c, served, storage.WithResource("csidrivers"), &v.drivers),
		open(ctx, c, served, nodev1.SchemeGroupVersion.WithResource("runtimeclasses"), &v.runtimeClasses),
		open(ctx, c, served, networkingv1.SchemeGroupVersion.WithResource("ingressclasses"), &v.ingressClasses),
	)
}

func open[T client.Object](ctx context.Context, c client.Client, served []client.KindInfo, gvr schema.GroupVersionResource, into *client.TypedView[T]) (err error) {
	*into, err = client.ViewIfServed(ctx, c, served, client.Kind[T]{GVR: gvr})
	return err
}

// Default returns the plugins in upstream's order, judging by views that stay open until ctx ends. The client reads, and writes quota, as
// the engine itself.
func Default(ctx context.Context, c client.Client, o Options) ([]admission.Plugin, error) {
	v, err := openViews(ctx, c)
	if err != nil {
		return nil, err
	}
	devices, err := quota.OpenDevices(ctx, c)
	if err != nil {
		return nil, err
	}
	security, err := newPodSecurity(c, v, o.Configurations["PodSecurity"], o.Metrics)
	if err != nil {
		return nil, err
	}
	events := &EventRateLimit{}
	if o.wants(events.Name()) {
		if events, err = newEventRateLimit(o.Configurations[events.Name()], time.Now); err != nil {
			return nil, err
		}
	}
	lives, err := newCertificateLives(o.Metrics)
	if err != nil {
		return nil, err
	}
	all := []admission.Plugin{
		&NamespaceAutoProvision{client: c, views: v},
		&NamespaceLifecycle{client: c, views: v},
		&NamespaceExists{client: c, views: v},
		LimitPodHardAntiAffinityTopology{},
		&LimitRanger{views: v},
		&ServiceAccount{client: c, views: v},
		&NodeRestriction{authorizer: o.Authorizer, views: v},
		TaintNodesByCondition{},
		AlwaysPullImages{},
		security,
		&Priority{views: v},
		DefaultTolerationSeconds{ptr.Deref(o.NotReadySeconds, defaultTolerationSeconds), ptr.Deref(o.UnreachableSeconds, defaultTolerationSeconds)},
		events,
		ExtendedResourceToleration{},
		&DefaultStorageClass{views: v},
		StorageObjectInUseProtection{},
		&OwnerReferencesPermissionEnforcement{client: c, authorizer: o.Authorizer},
		&PersistentVolumeClaimResize{views: v},
		&RuntimeClass{client: c, views: v},
		CertificateApproval{o.Authorizer},
		CertificateSigning{o.Authorizer, lives},
		CertificateSubjectRestriction{},
		&DefaultIngressClass{views: v},
		DenyServiceExternalIPs{},
		&PodTopologyLabels{views: v},
		&PodResizeValidator{views: v},
	}
	all = append(all, o.Dynamic...)
	if o.RBAC != nil {
		all = append(all, &rbac.Escalation{Rules: o.RBAC, Authorizer: o.Authorizer})
	}
	if o.Ledger == nil {
		o.Ledger = &quota.Ledger{}
	}
	all = append(all, &ResourceQuota{client: c, quotas: v.quotas, devices: devices, ledger: o.Ledger, now: time.Now})
	return slices.DeleteFunc(all, func(p admission.Plugin) bool { return !o.wants(p.Name()) }), nil
}

func (o Options) wants(name string) bool {
	if slices.Contains(o.Enable, name) {
		return true
	}
	return !slices.Contains(o.Disable, name) && !slices.Contains(offByDefault, name)
}

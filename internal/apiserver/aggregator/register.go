package aggregator

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	registrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// managedLabel marks the APIServices that exist because something is served here.
const managedLabel = "kube-aggregator.kubernetes.io/automanaged"

type priority struct{ group, version int32 }

// priorities are upstream's, of its own groups.
var priorities = map[schema.GroupVersion]priority{
	{Group: "", Version: "v1"}:                             {18000, 1},
	{Group: "apps", Version: "v1"}:                         {17800, 15},
	{Group: "events.k8s.io", Version: "v1"}:                {17750, 15},
	{Group: "authentication.k8s.io", Version: "v1"}:        {17700, 15},
	{Group: "authorization.k8s.io", Version: "v1"}:         {17600, 15},
	{Group: "autoscaling", Version: "v1"}:                  {17500, 15},
	{Group: "autoscaling", Version: "v2"}:                  {17500, 30},
	{Group: "batch", Version: "v1"}:                        {17400, 15},
	{Group: "certificates.k8s.io", Version: "v1"}:          {17300, 15},
	{Group: "networking.k8s.io", Version: "v1"}:            {17200, 15},
	{Group: "policy", Version: "v1"}:                       {17100, 15},
	{Group: "rbac.authorization.k8s.io", Version: "v1"}:    {17000, 15},
	{Group: "storage.k8s.io", Version: "v1"}:               {16800, 15},
	{Group: "apiextensions.k8s.io", Version: "v1"}:         {16700, 15},
	{Group: "admissionregistration.k8s.io", Version: "v1"}: {16700, 15},
	{Group: "scheduling.k8s.io", Version: "v1"}:            {16600, 15},
	{Group: "coordination.k8s.io", Version: "v1"}:          {16500, 15},
	{Group: "node.k8s.io", Version: "v1"}:                  {16300, 15},
	{Group: "discovery.k8s.io", Version: "v1"}:             {16200, 15},
	{Group: "flowcontrol.apiserver.k8s.io", Version: "v1"}: {16100, 21},
	{Group: "resource.k8s.io", Version: "v1"}:              {15900, 20},
	{Group: "metrics.k8s.io", Version: "v1beta1"}:          {100, 100}, // as metrics-server's own
}

// register keeps an APIService for each group and version that is served here, as long as it is.
func (m *Manager) register(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	m.cfg.Client.Kinds(ctx, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for {
		if err := m.registerAll(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Warn("not every group has its APIService", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-m.gone:
		}
	}
}

func (m *Manager) registerAll(ctx context.Context) error {
	local := m.cfg.Local()
	all, err := Services.List(ctx, m.cfg.Client, "", nil)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, s := range all {
		have[s.Name] = true
		gv := schema.GroupVersion{Group: s.Spec.Group, Version: s.Spec.Version}
		if s.Labels[managedLabel] == "" || slices.Contains(local, gv) {
			continue
		}
		if err := Services.Delete(ctx, m.cfg.Client, "", s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	for _, gv := range local {
		if have[gv.Version+"."+gv.Group] || gv.Group == "apiregistration.k8s.io" {
			continue
		}
		if _, err := Services.Create(ctx, m.cfg.Client, localService(gv)); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

func localService(gv schema.GroupVersion) *registrationv1.APIService {
	p, builtIn := priorities[gv]
	managed := "onstart"
	if !builtIn {
		p, managed = priority{1000, 100}, "true"
	}
	return &registrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{Name: gv.Version + "." + gv.Group, Labels: map[string]string{managedLabel: managed}},
		Spec:       registrationv1.APIServiceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: p.group, VersionPriority: p.version},
	}
}

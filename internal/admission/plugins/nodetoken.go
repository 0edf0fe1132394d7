package plugins

import (
	"context"
	"errors"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"clipper.dev/clipper/internal/admission"
	"clipper.dev/clipper/internal/authn"
)

// token lets a node have tokens that are bound to its own pods, for audiences that those name.
func (p *NodeRestriction) token(ctx context.Context, name string, r *admission.Request) error {
	if r.Operation != admission.Create || r.Subresource != "token" {
		return nil
	}
	req, err := as[*authenticationv1.TokenRequest](r, r.Object)
	if err != nil {
		return err
	}
	bound := req.Spec.BoundObjectRef
	if bound == nil || bound.APIVersion != "v1" || bound.Kind != "Pod" || bound.Name == "" {
		return forbidf(r, "node requested token not bound to a pod")
	}
	if bound.UID == "" {
		return forbidf(r, "node requested token with a pod binding without a uid")
	}
	pod, err := p.storedPod(r, bound.Name)
	if err != nil {
		return err
	}
	if bound.UID != pod.UID {
		return forbidf(r, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", bound.UID)
	}
	if pod.Spec.NodeName != name {
		return forbidf(r, "node requested token bound to a pod scheduled on a different node")
	}
	if err := p.audience(ctx, r, req, pod); err != nil {
		return forbid(r, err)
	}
	return nil
}

func (p *NodeRestriction) audience(ctx context.Context, r *admission.Request, req *authenticationv1.TokenRequest, pod *corev1.Pod) error {
	if len(req.Spec.Audiences) > 1 {
		return errors.New("node may only request 0 or 1 audiences")
	}
	audience := ""
	if len(req.Spec.Audiences) == 1 {
		audience = req.Spec.Audiences[0]
	}
	named, err := p.podNames(pod, audience)
	if err != nil {
		return fmt.Errorf("error validating audience %q: %w", audience, err)
	}
	if named {
		return nil
	}
	decision, _, err := p.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User:            authn.User(r.User),
		Verb:            "request-serviceaccounts-token-audience",
		Namespace:       r.Namespace,
		APIVersion:      "v1",
		Resource:        audience,
		Name:            r.Name,
		ResourceRequest: true,
	})
	switch {
	case decision == authorizer.DecisionAllow:
		return nil
	case err != nil:
		return fmt.Errorf("audience %q not found in pod spec volume, error authorizing %s to request tokens for this audience: %w", audience, r.User.Name, err)
	}
	return fmt.Errorf("audience %q not found in pod spec volume, %s is not authorized to request tokens for this audience", audience, r.User.Name)
}

// podNames tells whether a pod asks for tokens of an audience: in a projected volume, or through a CSI driver.
func (p *NodeRestriction) podNames(pod *corev1.Pod, audience string) (bool, error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience {
					return true, nil
				}
			}
		}
		driver, err := p.driverOf(pod, v)
		if err == nil && driver != "" {
			var asks bool
			if asks, err = p.driverAsks(driver, audience); asks {
				return true, nil
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return false, utilerrors.NewAggregate(errs)
}

func (p *NodeRestriction) driverOf(pod *corev1.Pod, v *corev1.Volume) (string, error) {
	switch {
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		return p.claimDriver(pod.Namespace, pod.Name+"-"+v.Name)
	case v.PersistentVolumeClaim != nil:
		return p.claimDriver(pod.Namespace, v.PersistentVolumeClaim.ClaimName)
	case v.CSI != nil:
		return v.CSI.Driver, nil
	case v.AWSElasticBlockStore != nil:
		return migratedEBS, nil
	case v.GCEPersistentDisk != nil:
		return migratedGCE, nil
	case v.AzureDisk != nil:
		return migratedAzureDisk, nil
	case v.AzureFile != nil:
		return migratedAzureFile, nil
	case v.Cinder != nil:
		return migratedCinder, nil
	case v.VsphereVolume != nil:
		return migratedVsphere, nil
	case v.PortworxVolume != nil:
		return migratedPortworx, nil
	}
	return "", nil
}

// The drivers that took over volumes which were once built in.
const (
	migratedEBS       = "ebs.csi.aws.com"
	migratedGCE       = "pd.csi.storage.gke.io"
	migratedAzureDisk = "disk.csi.azure.com"
	migratedAzureFile = "file.csi.azure.com"
	migratedCinder    = "cinder.csi.openstack.org"
	migratedVsphere   = "csi.vsphere.vmware.com"
	migratedPortworx  = "pxd.portworx.com"
)

func (p *NodeRestriction) claimDriver(namespace, claim string) (string, error) {
	pvc, ok := p.views.claims.Get(namespace, claim)
	if !ok {
		return "", apierrors.NewNotFound(corev1.Resource("persistentvolumeclaim"), claim)
	}
	pv, ok := p.views.volumes.Get("", pvc.Spec.VolumeName)
	if !ok {
		return "", apierrors.NewNotFound(corev1.Resource("persistentvolume"), pvc.Spec.VolumeName)
	}
	switch s := pv.Spec.PersistentVolumeSource; {
	case s.CSI != nil:
		return s.CSI.Driver, nil
	case s.AWSElasticBlockStore != nil:
		return migratedEBS, nil
	case s.GCEPersistentDisk != nil:
		return migratedGCE, nil
	case s.AzureDisk != nil:
		return migratedAzureDisk, nil
	case s.AzureFile != nil:
		return migratedAzureFile, nil
	case s.Cinder != nil:
		return migratedCinder, nil
	case s.VsphereVolume != nil:
		return migratedVsphere, nil
	case s.PortworxVolume != nil:
		return migratedPortworx, nil
	}
	return "", nil
}

func (p *NodeRestriction) driverAsks(driver, audience string) (bool, error) {
	d, ok := p.views.drivers.Get("", driver)
	if !ok {
		return false, apierrors.NewNotFound(schema.GroupResource{Group: "storage.k8s.io", Resource: "csidriver"}, driver)
	}
	for _, t := range d.Spec.TokenRequests {
		if t.Audience == audience {
			return true, nil
		}
	}
	return false, nil
}

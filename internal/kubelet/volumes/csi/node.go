package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"clipper.dev/clipper/internal/client"
)

const (
	// annNodeIDs is the annotation of a Node that tells by which name each driver knows it.
	annNodeIDs = "csi.volume.kubernetes.io/nodeid"
	// writeAttempts bounds how often a write is tried anew when another's came first.
	writeAttempts = 10
)

// install writes a driver into the Node and the CSINode.
func (p *Plugin) install(ctx context.Context, name string, info *csipb.NodeGetInfoResponse) error {
	topology := info.GetAccessibleTopology().GetSegments()
	err := p.changeNode(ctx, func(n *corev1.Node) error {
		for k, v := range topology {
			if have, ok := n.Labels[k]; ok && have != v {
				return fmt.Errorf("detected topology value collision: driver reported %q:%q but existing label is %q:%q", k, v, k, have)
			}
			metav1.SetMetaDataLabel(&n.ObjectMeta, k, v)
		}
		return setNodeID(n, name, info.GetNodeId())
	})
	if err != nil {
		return fmt.Errorf("error updating Node object with CSI driver node info: %w", err)
	}
	err = p.changeCSINode(ctx, func(n *storagev1.CSINode) {
		d := storagev1.CSINodeDriver{Name: name, NodeID: info.GetNodeId(), TopologyKeys: sortedKeys(topology)}
		if limit := info.GetMaxVolumesPerNode(); limit > 0 {
			d.Allocatable = &storagev1.VolumeNodeResources{Count: new(int32(min(limit, 1<<31-1)))}
		}
		n.Spec.Drivers = append(without(n.Spec.Drivers, name), d)
	})
	if err != nil {
		return fmt.Errorf("error updating CSINode object with CSI driver node info: %w", err)
	}
	return nil
}

// uninstall takes a driver off the CSINode and the Node. Labels stay: volumes may refer to them.
func (p *Plugin) uninstall(ctx context.Context, name string) error {
	if err := p.changeCSINode(ctx, func(n *storagev1.CSINode) { n.Spec.Drivers = without(n.Spec.Drivers, name) }); err != nil {
		return fmt.Errorf("error uninstalling CSI driver from CSINode object: %w", err)
	}
	if err := p.changeNode(ctx, func(n *corev1.Node) error { return setNodeID(n, name, "") }); err != nil {
		return fmt.Errorf("error removing CSI driver node info from Node object: %w", err)
	}
	return nil
}

func without(drivers []storagev1.CSINodeDriver, name string) []storagev1.CSINodeDriver {
	return slices.DeleteFunc(slices.Clone(drivers), func(d storagev1.CSINodeDriver) bool { return d.Name == name })
}

// setNodeID sets a driver's entry in the annotation of node IDs; "" removes it.
func setNodeID(n *corev1.Node, driver, id string) error {
	ids := map[string]string{}
	if text := n.Annotations[annNodeIDs]; text != "" {
		if err := json.Unmarshal([]byte(text), &ids); err != nil {
			return fmt.Errorf("failed to parse node's %q annotation value: %w", annNodeIDs, err)
		}
	}
	if id == "" {
		delete(ids, driver)
	} else {
		ids[driver] = id
	}
	if len(ids) == 0 {
		delete(n.Annotations, annNodeIDs)
		return nil
	}
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	metav1.SetMetaDataAnnotation(&n.ObjectMeta, annNodeIDs, string(text))
	return nil
}

// changeNode changes the Node object, looking anew whenever somebody else has.
func (p *Plugin) changeNode(ctx context.Context, change func(*corev1.Node) error) error {
	var err error
	for range writeAttempts {
		var have *corev1.Node
		if have, err = client.Nodes.Get(ctx, p.cfg.Client, "", p.cfg.NodeName); err != nil {
			return err
		}
		next := have.DeepCopy()
		if err = change(next); err != nil || equality.Semantic.DeepEqual(have, next) {
			return err
		}
		if _, err = client.Nodes.Update(ctx, p.cfg.Client, next); !apierrors.IsConflict(err) {
			return err
		}
	}
	return err
}

// changeCSINode changes the CSINode object, which is made if it isn't there. One of a former Node by the same name is replaced.
func (p *Plugin) changeCSINode(ctx context.Context, change func(*storagev1.CSINode)) error {
	var err error
	for range writeAttempts {
		if err = p.tryChangeCSINode(ctx, change); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return err
}

func (p *Plugin) tryChangeCSINode(ctx context.Context, change func(*storagev1.CSINode)) error {
	node, err := client.Nodes.Get(ctx, p.cfg.Client, "", p.cfg.NodeName)
	if err != nil {
		return err
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	have, err := client.CSINodes.Get(ctx, p.cfg.Client, "", node.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	missing := err != nil
	if !missing && !slices.ContainsFunc(have.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Node" && o.UID == node.UID }) {
		old := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}}
		if err := client.CSINodes.Delete(ctx, p.cfg.Client, "", have.Name, old); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		missing = true
	}
	if missing {
		made := &storagev1.CSINode{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, OwnerReferences: []metav1.OwnerReference{owner}},
			Spec:       storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{}},
		}
		change(made)
		_, err := client.CSINodes.Create(ctx, p.cfg.Client, made)
		return err
	}
	next := have.DeepCopy()
	change(next)
	if equality.Semantic.DeepEqual(have, next) {
		return nil
	}
	_, err = client.CSINodes.Update(ctx, p.cfg.Client, next)
	return err
}

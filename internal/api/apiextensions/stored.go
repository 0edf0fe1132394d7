package apiextensions

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"

	"clipper.dev/clipper/internal/api"
)

// stored is v1beta1, as which upstream stores definitions to this day.
var stored = api.Version{
	Version: "v1beta1", StoredOnly: true,
	New:     func() api.Object { return new(apiextensionsv1beta1.CustomResourceDefinition) },
	ToHub:   fromStored,
	FromHub: toStored,
}

func toStored(o api.Object) (api.Object, error) {
	var middle apiextensions.CustomResourceDefinition
	out := &apiextensionsv1beta1.CustomResourceDefinition{}
	in := o.DeepCopyObject().(*apiextensionsv1.CustomResourceDefinition) // conversions share memory
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(in, &middle, nil); err != nil {
		return nil, fmt.Errorf("read v1: %w", err)
	}
	if err := apiextensionsv1beta1.Convert_apiextensions_CustomResourceDefinition_To_v1beta1_CustomResourceDefinition(&middle, out, nil); err != nil {
		return nil, fmt.Errorf("write v1beta1: %w", err)
	}
	return out, nil
}

func fromStored(o api.Object) (api.Object, error) {
	in := o.(*apiextensionsv1beta1.CustomResourceDefinition)
	apiextensionsv1beta1.SetObjectDefaults_CustomResourceDefinition(in)
	var middle apiextensions.CustomResourceDefinition
	out := &apiextensionsv1.CustomResourceDefinition{}
	if err := apiextensionsv1beta1.Convert_v1beta1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(in, &middle, nil); err != nil {
		return nil, fmt.Errorf("read v1beta1: %w", err)
	}
	if err := apiextensionsv1.Convert_apiextensions_CustomResourceDefinition_To_v1_CustomResourceDefinition(&middle, out, nil); err != nil {
		return nil, fmt.Errorf("write v1: %w", err)
	}
	return out, nil
}

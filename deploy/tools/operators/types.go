// Package operators names the types from which the operators' CustomResourceDefinitions are generated.
package operators

import (
	_ "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

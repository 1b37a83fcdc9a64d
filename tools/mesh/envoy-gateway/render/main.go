// Renders a chart as `helm template` does, hooks and all, without what else helm can do.
//
//	render CHART RELEASE NAMESPACE VALUES
package main

import (
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func main() {
	folder, release, namespace, file := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	chart, err := loader.Load(folder)
	check(err)
	values, err := chartutil.ReadValuesFile(file)
	check(err)
	check(chartutil.ProcessDependenciesWithMerge(chart, values))
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, options, nil)
	check(err)
	rendered, err := engine.Render(chart, all)
	check(err)
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if filepath.Ext(name) == ".yaml" {
			fmt.Printf("---\n# %s\n%s\n", name, rendered[name])
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Prints the names of all lints that zlint has registered. `tools/lints/list` runs it.
package main

import (
	"fmt"

	_ "github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

func main() {
	for _, name := range lint.GlobalRegistry().Names() {
		fmt.Println(name)
	}
}

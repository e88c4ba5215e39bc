// Written by go test -update.

package dict

const v1SHA256 = "73b9b4b71633cf2f4bd239d3f57a96d7ca688ca6391ea09c0a19012b3a50e2c1"

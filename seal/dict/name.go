// Written by go test -update.

package dict

const v1SHA256 = "af38b7d60302b872b06372107c90a4a9409053a2c09e1d07ee767e4041054c91"

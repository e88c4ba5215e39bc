// Package sample makes up the patients of a rural clinic: names common in several regions of Africa put together at random, invented
// villages, and visits filled in through the same forms that staff fill in. Nobody in it exists. For demonstrations, tests, and training
// the compression dictionary.
//
// The same seed gives the same patients, bytes included, on every platform and for every n: patient i depends on the seed and i alone.
package sample

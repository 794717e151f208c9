package engine

const machine = machineX86

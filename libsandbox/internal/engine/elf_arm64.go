package engine

const machine = machineARM

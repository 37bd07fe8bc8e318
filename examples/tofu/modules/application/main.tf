# Stands for machines in that network; fails where it is told to, after the first of them.
variable "network" {
  type = string
}

variable "machines" {
  type = number
}

variable "fail" {
  type    = bool
  default = false
}

resource "terraform_data" "machine" {
  count = var.machines
  input = "${var.network}/machine-${count.index}"
}

resource "terraform_data" "balancer" {
  input            = terraform_data.machine[*].output
  triggers_replace = var.fail

  provisioner "local-exec" {
    command = var.fail ? "echo 'quota of load balancers exceeded' >&2; exit 1" : "echo balancing ${var.machines} machines"
  }
}

output "machines" {
  value = terraform_data.balancer.output
}

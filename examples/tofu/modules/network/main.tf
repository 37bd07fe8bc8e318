# Stands for a network: nothing is asked of any cloud.
variable "cidr" {
  type = string
}

resource "terraform_data" "network" {
  input = { cidr = var.cidr, id = "net-${substr(sha256(var.cidr), 0, 8)}" }
}

output "id" {
  value = terraform_data.network.output.id
}
